"""Predict the time of a training step on a GPU, from the graph that the CUDA backend records.

networks         the networks of the page, and the recording of their steps
paper_cupy       a CuPy without memory: it records every launch, and what it reads and writes
paper_cublaslt   nvmath.bindings.cublasLt for it
operations       operations of a step, each alone: to be timed on a GPU beside their predictions
traffic          arguments of a kernel → bytes and instructions
dense_stack      what the kernel of a narrow network does
timeline         launches with their dependencies → microseconds
machine          the rates of one GPU, with their sources

Nothing here has run on a GPU: every time is a prediction.
"""
