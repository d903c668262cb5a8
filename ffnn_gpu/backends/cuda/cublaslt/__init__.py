"""Matrix products by cublasLt: describe a problem, choose an algorithm, cache the ones that were timed."""
