"""Host arrays.

numpy_backend   the operations by NumPy
compiled_backend   the same, where llvmlite is installed, through compiled loops
loops/          the compiled loops, and matrix products in register tiles
recording/      steps recorded once, then replayed without Python by a pool of threads

docs/cpu_kernels.md explains the last two.
"""
