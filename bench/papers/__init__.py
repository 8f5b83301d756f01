"""The tables of the papers, repeated in the small on the demo model and in closed form: ``python -m bench.papers``."""
