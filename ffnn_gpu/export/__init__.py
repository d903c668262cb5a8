"""What is trained, for programs without this package.

exported     what is read of a model or a network
to_onnx      one ONNX file, with the encoding of raw columns and the answers inside
to_numpy     one Python file that needs NumPy alone
state_dict   weights ↔ a PyTorch state_dict in a safetensors file
"""

from ffnn_gpu.export.state_dict import export_state_dict, load_state_dict
from ffnn_gpu.export.to_numpy import export_numpy
from ffnn_gpu.export.to_onnx import export_onnx

__all__ = ["export_numpy", "export_onnx", "export_state_dict", "load_state_dict"]
