"""One CUDA GPU through CuPy.

cupy_backend, probe                               the backend, and the test that a GPU can be used
graphs, branches                                  steps captured as CUDA graphs; what may overlap in them
kernels.cu, formulas.cuh, arithmetic.cuh          own kernels
kernels, formulas                                 how they are compiled and launched; kernels of formulas
launches, scratch, members                        launches for all members of a pack; memory of kernels
operations, losses, normalization, updates        the operations that the kernels compute
products, cublaslt/                               matrix products
fused/                                            narrow networks, whose steps are one kernel
"""
