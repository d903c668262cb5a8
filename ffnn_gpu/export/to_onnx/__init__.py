"""A network or model → one ONNX file that reads raw columns and gives answers.

file       export_onnx: the whole graph, written in one step
graph      nodes and constants under construction
columns    raw columns → the matrix that the network reads
spellings  the texts that mean each level
layers     layers → nodes
formulas   an activation's trace → nodes
answers    outputs → labels, probabilities or numbers
"""

from ffnn_gpu.export.to_onnx.file import export_onnx, onnx_bytes

__all__ = ["export_onnx", "onnx_bytes"]
