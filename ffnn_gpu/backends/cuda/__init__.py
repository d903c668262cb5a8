"""One CUDA GPU through CuPy: own kernels, matrix products by cublasLt, and CUDA graphs."""
