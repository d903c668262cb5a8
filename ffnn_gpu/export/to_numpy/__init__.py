"""A network or model → one readable Python file that needs NumPy alone.

file      export_numpy: the whole file, written in one step
columns   raw columns → the matrix that the network reads
cells     what reads rows and cells of every kind
matrix    a matrix of raw numbers, standardized
layers    layers → lines of code
formulas  an activation's trace → a function
answers   outputs → labels, probabilities or numbers

Each module holds the functions that it writes as text, exactly as they stand in the file. They compute what
the NumPy backend computes, in the same order, so that float64 results are equal bit for bit.
"""

from ffnn_gpu.export.to_numpy.file import export_numpy, numpy_source

__all__ = ["export_numpy", "numpy_source"]
