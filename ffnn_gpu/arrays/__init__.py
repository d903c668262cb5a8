"""Kinds of arrays that a caller may pass, and their number types.

boundary       arrays that come in and go out: NumPy, lists, DLPack, CuPy
standardized   a matrix that is standardized where its rows are read
file_rows      rows that stay in files until they are read
precision      number types, and the type that sums are taken in
"""
