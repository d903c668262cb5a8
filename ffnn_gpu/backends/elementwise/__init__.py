"""One formula, every device: a formula over `xp` becomes an expression, and the expression becomes code.

trace          formula → Expression, by running it once with symbolic arrays
expression     Expression and Graph: operations, folded constants, common parts, evaluation by NumPy
operators      Python's operators, for symbols and for vectors
built_once     formula → code, checked and kept, or the reason why there is none
cuda_function  expression → a CUDA function object
compiled_loop  expressions → one compiled loop over memory on a CPU
loop_code      its LLVM code
code_cache     machine code on disk
machine_code   LLVM code → machine code for this processor
emission       variables, loops and declarations in LLVM code
lanes          vectors as values in LLVM code
functions      exp, log, tanh, erf, … on vectors
coefficients   their constants and polynomials
"""
