"""Kinds of arrays that a caller may pass, and their number types.

boundary       arrays that come in and go out: NumPy, lists, DLPack, CuPy
rows           a matrix whose rows are read when they are asked for, in memory or in files
file_rows      rows in files, mapped or read
standardized   a matrix that is standardized where its rows are read
whole_numbers  are whole numbers codes of classes, or quantities?
precision      number types, and the type that sums are taken in
array_types    names of arrays in signatures
"""
