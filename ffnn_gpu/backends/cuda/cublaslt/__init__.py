"""Matrix products by cublasLt: which problem, which algorithm, and the algorithms that were timed."""
