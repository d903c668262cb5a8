"""Host arrays: operations by NumPy; with Numba also compiled loops and recorded steps.

See docs/cpu_kernels.md.
"""
