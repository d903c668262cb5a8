"""One formula, every device: element-wise formulas as code.

lanes         vectors as values in LLVM code
operators     Python's operators, for symbols and for vectors
functions     exp, log, tanh, erf, … on vectors
coefficients  their constants and polynomials
"""
