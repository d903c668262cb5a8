"""Matrix products by cublasLt.

matmul    plan a product and run it, outside or inside a capture
problem   a product described as cublasLt needs it
calls     the calls of the library
store     algorithms that were timed, cached on disk
timing    time work on a stream
"""
