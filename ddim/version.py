"""The one place that holds the version; packaging, the pack and the changelog test read it."""

__version__ = "0.1.0"
