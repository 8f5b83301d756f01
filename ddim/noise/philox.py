"""Standard normal numbers as a pure function of a counter, bit for bit the same on every machine.

Random words come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The transform
of Box & Muller 1958 turns each pair of words into a pair of normals. It uses only operations that IEEE 754 rounds
correctly: integer arithmetic, conversions, and ``+``, ``-``, ``*`` and square root in float32, in a fixed order. There
is no fused multiply-add and no library logarithm or cosine, because their last bits differ between processors.
``operators.py`` holds the operators; ``triton_noise.py`` implements the same definition for GPUs.

Definition, for element ``e`` of an image::

    tile, offset = divmod(e, 4 * LANES);  k, lane = divmod(offset, LANES)
    words = philox4x32_10(counter=(tile * LANES + lane, image, step, 0), key)
    normals = box_muller(words[0], words[1]) + box_muller(words[2], words[3]);  value = normals[k]

Elements of one tile row (fixed k) are contiguous in memory, for vector units and GPUs.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from .operators import NUMPY, Array, Operators

__all__ = ["COS", "LANES", "LOG", "LN4", "MAX_ELEMENTS", "SIN", "key_of_seed", "normals", "philox4x32"]

LANES = 256
MAX_ELEMENTS = 4 << 32  # of an image: the block number is a 32-bit word, and a block gives 4 elements

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF

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
_HOST_BLOCKS = 16384  # Philox blocks per pass on the CPU, so that the arrays fit in the second-level cache
_DEVICE_BLOCKS = 1 << 17  # elsewhere, so that the arrays take a few MB


def key_of_seed(seed: int) -> tuple[int, int]:
    """Derive the two key words from a seed, which may be any integer.

    The seed is hashed, so that streams differ from those of torch's Philox generators, and adjacent seeds give
    unrelated keys.
    """
    digest = hashlib.blake2b(f"ddim/keyed-noise/{int(seed)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


class _Words:
    """An int64 array of shape ``(rows, columns)`` whose lowest 32 bits are words, with views of 32 bits.

    ``low`` and ``high`` start at the first low and the first high half. Of each pair of their neighbours the first
    is a word and the second is a half that nothing reads, so that one contiguous operator reaches all words without a
    shift. Arrays of one column broadcast.
    """

    __slots__ = ("array", "high", "low")

    def __init__(self, array: Array, ops: Operators) -> None:
        halves = array.view(ops.int32)
        first, last = halves[:, :-1], halves[:, 1:]
        self.array = array
        self.low, self.high = (first, last) if sys.byteorder == "little" else (last, first)

    def cut(self, one: _Words, other: _Words, ops: Operators) -> _Words:
        """The part that has the common shape of two arrays that broadcast."""
        full, first, second = self.array.shape, one.array.shape, other.array.shape
        if first == full or second == full:
            return self
        rows, columns = max(first[0], second[0]), max(first[1], second[1])
        return self if (rows, columns) == full else _Words(self.array[:rows, :columns], ops)


def philox4x32(counter: Sequence[Array], key: tuple[int, int], scratch: Array, ops: Operators) -> tuple[Array, Array]:
    """Philox4x32-10. The first rounds cost less where words of the counter are the same for a row or a column.

    Args:
        counter: the four words, int64 arrays of shape ``(R or 1, n or 1)``; not written.
        key: two 32-bit words.
        scratch: int64, shape ``(6, R, n)``; overwritten.
        ops: of the kind of array.

    Returns:
        The random words 0 and 2, and the words 1 and 3, both of shape ``(2, R, n)`` in ``scratch[:2]`` and
        ``scratch[2:4]``. Only the lowest 32 bits of the latter are words.
    """
    buffers = [_Words(part, ops) for part in scratch]
    words = [_Words(word, ops) for word in counter]
    constants = tuple(ops.word(value) for value in (*_MULTIPLIERS, _WORD))
    for r, round_key in enumerate(_round_keys(key, ops)):
        words = _round(words, round_key, constants, buffers[:2], buffers[2:4] if r % 2 else buffers[4:], ops)
    return scratch[:2], scratch[2:4]


@lru_cache(maxsize=16)
def _round_keys(key: tuple[int, int], ops: Operators) -> tuple[tuple[Any, Any], ...]:
    return tuple(
        (ops.word((key[0] + r * _WEYL[0]) & _WORD), ops.word((key[1] + r * _WEYL[1]) & _WORD)) for r in range(_ROUNDS)
    )


def _round(
    words: list[_Words],
    key: tuple[Any, Any],
    constants: tuple[Any, Any, Any],
    results: list[_Words],
    products: list[_Words],
    ops: Operators,
) -> list[_Words]:
    """One round. The words 1 and 3 that it returns are products, of which the lower half counts."""
    c0, c1, c2, c3 = words
    multiplier0, multiplier2, mask = constants
    product2, product0 = products[0].cut(c2, c2, ops), products[1].cut(c0, c0, ops)
    ops.multiply(c0.array, multiplier0, out=product0.array)
    ops.multiply(c2.array, multiplier2, out=product2.array)
    c0, c2 = results[0].cut(product2, c1, ops), results[1].cut(product0, c3, ops)
    for product, word, round_key, result in ((product2, c1, key[0], c0), (product0, c3, key[1], c2)):
        ops.xor(product.high, word.low, out=result.low)
        ops.both(result.array, mask, out=result.array)
        ops.xor(result.array, round_key, out=result.array)
    return [c0, product2, c2, product0]


def normals(key: tuple[int, int], images: Array, steps: Array, out: Array, ops: Operators) -> None:
    """Fill each row of ``out`` with the normals of one image at one step.

    Args:
        key: From :func:`key_of_seed`.
        images: int64, shape ``(R,)``: image numbers below 2^32.
        steps: int64, shape ``(R,)``: indices of steps below 2^32.
        out: float32, shape ``(R, count)``, contiguous, with at most :data:`MAX_ELEMENTS` elements per image.
        ops: Of the kind of the arrays.
    """
    total, count = out.shape
    if not total * count:
        return
    lanes = min(LANES, count)  # an image smaller than a tile row needs only one block per element
    tiles = -(-count // (4 * lanes))
    most = _HOST_BLOCKS if ops is NUMPY else _DEVICE_BLOCKS
    tiles_per_pass = min(tiles, max(1, most // lanes))
    rows_per_pass = min(total, max(1, most // (tiles * lanes)))
    scratch = ops.empty(out, 6 * rows_per_pass * tiles_per_pass * lanes)
    for row in range(0, total, rows_per_pass):
        rows = slice(row, row + rows_per_pass)
        for tile in range(0, tiles, tiles_per_pass):
            last = min(tile + tiles_per_pass, tiles)
            blocks = ops.arange(out, tile * lanes, last * lanes)[None]
            counter = (blocks, images[rows, None], steps[rows, None], ops.zero(out))
            begin, end = tile * 4 * lanes, min(count, last * 4 * lanes)
            _tiles(counter, key, scratch, out[rows, begin:end], lanes, 1 if count <= lanes else 2, ops)


def _tiles(
    counter: tuple[Array, ...], key: tuple[int, int], scratch: Array, out: Array, lanes: int, pairs: int, ops: Operators
) -> None:
    """Write tiles of several images, of which the last may be cut off; ``out`` has the shape ``(R, elements)``.

    With one pair of rows, the other two of a tile are not computed.
    """
    rows, blocks = len(counter[1]), counter[0].shape[1]
    scratch = scratch[: 6 * rows * blocks].reshape(6, rows, blocks)
    philox4x32(counter, key, scratch, ops)
    whole = out.shape[1] == 2 * pairs * blocks
    result = out if whole else ops.empty(out, pairs * rows * blocks).view(ops.float32).reshape(rows, -1)
    _box_muller(scratch, result.reshape(rows, blocks // lanes, pairs, 2, lanes), ops)
    if not whole:
        out[...] = result[:, : out.shape[1]]


def _box_muller(scratch: Array, result: Array, ops: Operators) -> None:
    """Two normals from two words: radius sqrt(-2 ln(a / 2^32)), signed by the lowest bit of a; angle pi b / 2^32.

    Args:
        scratch: as :func:`philox4x32` leaves it: a in the first two parts, b in the next two; overwritten.
        result: float32, shape ``(R, tiles, pairs, 2, lanes)``: for each pair of words the cosine and the sine.
        ops: of the kind of array.
    """
    rows, tiles, pairs, _, lanes = result.shape
    # Six arrays of the same 32-bit size, so that everything happens in memory that the cache holds already.
    free = scratch.view(ops.int32).reshape(6, 2, rows, tiles, lanes)[:, :pairs]
    a, b = free[4], free[5]
    ops.convert(scratch[:pairs].reshape(a.shape), a)
    ops.convert(scratch[2 : 2 + pairs].reshape(b.shape), b)
    radius, spare = free[0].view(ops.float32), free[1].view(ops.float32)
    turn, square, polynomial = (part.view(ops.float32) for part in (free[2], free[3], free[5]))
    ops.convert(b, turn)
    _radius(a, radius, spare, square, ops)
    ops.multiply(turn, ops.real(2.0**-31), out=turn)
    ops.multiply(turn, turn, out=square)
    result = ops.swap_axes(result, (3, 2, 0, 1, 4))
    _horner(COS, square, polynomial, ops)
    ops.multiply(polynomial, radius, out=result[0])
    ops.multiply(radius, turn, out=radius)
    _horner(SIN, square, polynomial, ops)
    ops.multiply(polynomial, radius, out=result[1])


def _radius(a: Array, radius: Array, fraction: Array, exponent_term: Array, ops: Operators) -> None:
    """sqrt(-2 ln(v / 2^32)) of the odd number v = a | 1, negated where a is odd; overwrites all its arrays."""
    v, bits = radius.view(ops.int32), fraction.view(ops.int32)
    ops.either(a, ops.integer(1), out=v)
    ops.unsigned_to_float(v, fraction)
    ops.subtract(bits, ops.integer(_ROOT_HALF), out=bits)
    exponent = v
    ops.shift_right(bits, ops.integer(23), out=exponent)  # v = 2^exponent (1 + f)
    ops.subtract(exponent, ops.integer(32), out=exponent)
    ops.convert(exponent, exponent_term)
    ops.multiply(exponent_term, ops.real(-LN4), out=exponent_term)
    ops.both(bits, ops.integer(0x7FFFFF), out=bits)
    ops.add(bits, ops.integer(_ROOT_HALF), out=bits)
    ops.subtract(fraction, ops.real(1.0), out=fraction)
    _horner(LOG, fraction, radius, ops)
    ops.multiply(radius, fraction, out=radius)
    ops.add(radius, exponent_term, out=radius)
    ops.sqrt(radius, radius)
    ops.shift_left(a, ops.integer(31), out=a)
    ops.xor(radius.view(ops.int32), a, out=radius.view(ops.int32))


def _horner(coefficients: tuple[float, ...], x: Array, out: Array, ops: Operators) -> None:
    """Evaluate a polynomial, given from its constant term up, in float32."""
    ops.multiply(x, ops.real(coefficients[-1]), out=out)
    for coefficient in coefficients[-2:0:-1]:
        ops.add(out, ops.real(coefficient), out=out)
        ops.multiply(out, x, out=out)
    ops.add(out, ops.real(coefficients[0]), out=out)
