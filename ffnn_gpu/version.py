"""The version of this package; below everything, because ranks compare theirs."""

__version__ = "0.1.0"
