"""One CUDA GPU through CuPy.

cupy_backend, probe                               the backend, and the test that a GPU can be used
graphs                                            steps captured as CUDA graphs
kernels.cu, kernels                               own kernels, and how they are compiled and launched
operations, losses, normalization, updates        the operations that the kernels compute
products, cublaslt/                               matrix products
"""
