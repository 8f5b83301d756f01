"""Standard normal numbers as a pure function of a counter, bit for bit the same on every machine.

Random words come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The transform
of Box & Muller 1958 turns each pair of words into a pair of normals. It uses only operations that IEEE 754 rounds
correctly: integer arithmetic, conversions, and ``+``, ``-``, ``*`` and square root in float32, in a fixed order. There
is no fused multiply-add and no library logarithm or cosine, because their last bits differ between processors.
``triton_noise.py`` implements the same definition for GPUs.

Definition, for element ``e`` of an image::

    tile, offset = divmod(e, 4 * LANES);  k, lane = divmod(offset, LANES)
    words = philox4x32_10(counter=(tile * LANES + lane, image, step, 0), key)
    normals = box_muller(words[0], words[1]) + box_muller(words[2], words[3]);  value = normals[k]

Elements of one tile row (fixed k) are contiguous in memory, for vector units and GPUs.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["COS", "LANES", "LOG", "LN4", "MAX_ELEMENTS", "SIN", "key_of_seed", "normals", "philox4x32"]

LANES = 256
MAX_ELEMENTS = 4 << 32  # of an image: the block number is a 32-bit word, and a block gives 4 elements

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)

# Minimax polynomials, lowest power first, rounded to float32.
LOG = (  # -2 ln(1 + f) / f for f in [sqrt(1/2) - 1, sqrt(2) - 1], relative error 3e-8
    -2.0,
    0.9999997615814209,
    -0.6666837334632874,
    0.5000414848327637,
    -0.39913666248321533,
    0.33124804496765137,
    -0.2990456521511078,
    0.28733575344085693,
    -0.17444486916065216,
)
SIN = (  # sin(pi u / 2) / u in u^2 for u in [-1, 1], error 7e-9
    1.5707963705062866,
    -0.6459637880325317,
    0.07968992739915848,
    -0.004674157593399286,
    0.00015167852689046413,
)
COS = (  # cos(pi u / 2) in u^2 for u in [-1, 1], error 5e-8
    0.9999999403953552,
    -1.2336982488632202,
    0.2536507546901703,
    -0.020810628309845924,
    0.0008581905858591199,
)
LN4 = 1.3862943649291992  # 2 ln 2
_ROOT_HALF = 0x3F3504F3  # bits of sqrt(1/2)
_CHUNK = 16384  # Philox blocks per pass, so that the arrays fit in the second-level cache


def key_of_seed(seed: int) -> tuple[int, int]:
    """Derive the two key words from a seed, which may be any integer.

    The seed is hashed, so that streams differ from those of torch's Philox generators, and adjacent seeds give
    unrelated keys.
    """
    digest = hashlib.blake2b(f"ddim/keyed-noise/{int(seed)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def philox4x32(words: list[np.ndarray], key: tuple[int, int]) -> None:
    """Apply Philox4x32-10 in place.

    Args:
        words: The counter, as four uint64 arrays of the same shape with 32-bit words; overwritten by the random words.
        key: Two 32-bit words.
    """
    product0, product2 = np.empty_like(words[0]), np.empty_like(words[0])
    c0, c1, c2, c3 = words
    for r in range(_ROUNDS):
        k0, k1 = (np.uint64((word + r * weyl) & 0xFFFFFFFF) for word, weyl in zip(key, _WEYL, strict=True))
        np.multiply(c0, _MULTIPLIERS[0], out=product0)
        np.multiply(c2, _MULTIPLIERS[1], out=product2)
        _mix(product2, c1, k0, out=c0)
        _mix(product0, c3, k1, out=c2)
        np.bitwise_and(product2, _LOW_WORD, out=c1)
        np.bitwise_and(product0, _LOW_WORD, out=c3)


def _mix(product: np.ndarray, word: np.ndarray, key: np.uint64, out: np.ndarray) -> None:
    """Write (high word of ``product``) xor ``word`` xor ``key`` into ``out``."""
    np.right_shift(product, _WORD_BITS, out=out)
    np.bitwise_xor(out, word, out=out)
    np.bitwise_xor(out, key, out=out)


def normals(key: tuple[int, int], images: np.ndarray, step: int, out: np.ndarray) -> None:
    """Fill each row of ``out`` with the normals of one image.

    Args:
        key: From :func:`key_of_seed`.
        images: uint64, shape ``(B,)``: image numbers below 2^32.
        step: Below 2^32.
        out: float32, shape ``(B, count)``, contiguous, with at most :data:`MAX_ELEMENTS` elements per image.
    """
    count = out.shape[1]
    lanes = min(LANES, max(count, 1))  # an image smaller than a tile row needs only one block per element
    tiles = -(-count // (4 * LANES))
    rows_per_pass = max(1, _CHUNK // (tiles * lanes)) if tiles else 1
    tiles_per_pass = max(1, _CHUNK // lanes)
    for first in range(0, len(out), rows_per_pass):
        rows = slice(first, first + rows_per_pass)
        for tile in range(0, tiles, tiles_per_pass):
            blocks = np.arange(tile * lanes, min(tile + tiles_per_pass, tiles) * lanes, dtype=np.uint64)
            chunk = _tiles(key, blocks, images[rows], step, lanes, first_pair_only=count <= lanes)
            begin, end = tile * 4 * LANES, min(count, (tile + tiles_per_pass) * 4 * LANES)
            out[rows, begin:end] = chunk.reshape(chunk.shape[0], -1)[:, : end - begin]


def _tiles(
    key: tuple[int, int], blocks: np.ndarray, images: np.ndarray, step: int, lanes: int, *, first_pair_only: bool
) -> np.ndarray:
    """Complete tiles of several images, float32, shape ``(images, tiles, 4, lanes)``.

    With ``first_pair_only`` the last two of the four rows are left uninitialized.
    """
    shape = (len(images), len(blocks))
    words = [np.empty(shape, np.uint64) for _ in range(4)]
    for word, value in zip(words, (blocks, images[:, None], np.uint64(step), np.uint64(0)), strict=True):
        word[...] = value
    philox4x32(words, key)
    result = np.empty((len(images), len(blocks) // lanes, 4, lanes), np.float32)
    _box_muller(words[0], words[1], result[:, :, 0], result[:, :, 1])
    if not first_pair_only:
        _box_muller(words[2], words[3], result[:, :, 2], result[:, :, 3])
    return result


def _box_muller(a: np.ndarray, b: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> None:
    """Two normals from two words: radius sqrt(-2 ln(a / 2^32)), signed by the lowest bit of a; angle pi b / 2^32."""
    radius = _radius(a.astype(np.uint32)).reshape(cosine.shape)
    turn = b.astype(np.uint32).view(np.int32).astype(np.float32).reshape(cosine.shape)
    turn *= np.float32(2.0**-31)
    square = turn * turn
    np.multiply(_horner(COS, square), radius, out=cosine)
    radius *= turn
    np.multiply(_horner(SIN, square), radius, out=sine)


def _radius(a: np.ndarray) -> np.ndarray:
    """sqrt(-2 ln(v / 2^32)) of the odd number v = a | 1, negated where a is odd."""
    bits = (a | np.uint32(1)).astype(np.float32).view(np.int32)
    bits -= np.int32(_ROOT_HALF)
    exponent = bits >> np.int32(23)  # v = 2^exponent (1 + f)
    bits &= np.int32(0x7FFFFF)
    bits += np.int32(_ROOT_HALF)
    fraction = bits.view(np.float32)
    fraction -= np.float32(1)
    squared = _horner(LOG, fraction)
    squared *= fraction
    exponent -= np.int32(32)
    exponent_term = exponent.astype(np.float32)
    exponent_term *= np.float32(-LN4)
    squared += exponent_term
    radius = squared
    np.sqrt(squared, out=radius)
    radius.view(np.uint32)[...] ^= a << np.uint32(31)
    return radius


def _horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial, given from its constant term up, in float32."""
    result: np.ndarray = x * np.float32(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        result += np.float32(coefficient)
        result *= x
    result += np.float32(coefficients[0])
    return result
