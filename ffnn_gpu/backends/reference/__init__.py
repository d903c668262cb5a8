"""The specification: each operation as its formula, for any array module.

Tests compare the other backends with it.
"""
