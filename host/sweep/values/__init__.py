"""What the options of a sweep say: the values of each input, and which inputs vary together."""

from host.sweep.values.axes import AxisOption, Column, ValuesError, read_axes

__all__ = ["AxisOption", "Column", "ValuesError", "read_axes"]
