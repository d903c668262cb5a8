"""The version of this package, written here only: pyproject.toml reads it, and ranks compare theirs."""

__version__ = "0.2.0"
