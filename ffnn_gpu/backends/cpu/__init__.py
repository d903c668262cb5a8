"""Host arrays: NumPy, and compiled loops and recorded steps where Numba is installed."""
