"""One CUDA GPU through CuPy: kernels of our own, matrix products by cublasLt, steps captured as CUDA graphs."""
