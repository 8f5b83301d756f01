"""Strict JSON: what every browser's `JSON.parse` accepts, how deep it may nest, and how many values it may hold.

Python's own C reader and writer hold the interpreter's lock for a whole document, which stops every other thread, the
event loop included: for half a second in 32 MiB. What is large is therefore read and written in small steps. ijson does
that too, but reads other values than ``json`` does: it refuses NaN and 1e999, which Python clients write, and replaces
half a surrogate pair by a question mark, so a text would mean something else once it is large.
"""

from host.strict_json.reading import loads, parse_untrusted
from host.strict_json.shapes import jsonable, nests_deeper_than
from host.strict_json.writing import dumps

__all__ = ["dumps", "jsonable", "loads", "nests_deeper_than", "parse_untrusted"]
