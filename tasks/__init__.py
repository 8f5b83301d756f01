"""The tasks of a developer and of who tries the pack out: ``python -m tasks NAME``, on every system, with no shell.

It needs the standard library alone, because it makes the virtual environment that everything else runs in.
"""
