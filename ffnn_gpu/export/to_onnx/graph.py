"""An ONNX graph under construction: nodes and constants with names of their own."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.version import __version__

OPSET, ML_OPSET, IR = 17, 3, 8  # of onnx 1.12; read by every runtime since 2022
LARGEST = 2**31 - 2**20  # bytes of constants; a file of Protocol Buffers holds 2 GiB
TEXT = np.dtype(object)


def library() -> Any:
    """Return the package onnx. Raises ConfigurationError if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise ConfigurationError(
            f'writing ONNX needs the package onnx: pip install "ffnn_gpu[onnx]" ({error})'
        ) from error
    return onnx


class Graph:
    """Values are known by their names. The first axis of each input and output has any number of rows.

    taken: names of inputs and outputs, which no other value may have.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.onnx = library()
        self._taken, self._count, self._bytes = {*taken}, 0, 0
        self._nodes: list[Any] = []
        self._constants: dict[Any, tuple[str, Any]] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> str:
        """Return the name of a constant array. TEXT is the type of texts."""
        array = np.asarray(value, dtype)
        content = repr(array.tolist()) if array.dtype == TEXT else array.tobytes()
        key = array.dtype.str, array.shape, content
        if key not in self._constants:
            name = self._fresh("constant")
            self._constants[key] = name, self.onnx.numpy_helper.from_array(array, name)
            self._bytes += array.nbytes
        return self._constants[key][0]

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Return the name of the result of an operator."""
        out = self._fresh(operator.lower())
        self._nodes.append(
            self.onnx.helper.make_node(operator, inputs, [out], name=out, domain=domain, **attributes)
        )
        return out

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """Return a value as another type."""
        return self.node("Cast", value, to=self._type(dtype))

    def input(self, name: str, dtype: DTypeLike, width: int) -> str:
        """Declare an input (rows, width)."""
        self._inputs.append(self._declared(name, dtype, ("rows", width)))
        return name

    def output(self, name: str, value: str, dtype: DTypeLike, width: int | None = None) -> None:
        """Declare an output (rows, width), or (rows,) without a width."""
        self._nodes.append(self.onnx.helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(self._declared(name, dtype, ("rows",) if width is None else ("rows", width)))

    def file(self, name: str, metadata: dict[str, str]) -> bytes:
        """Return the file, checked. Raises ConfigurationError if it is too large."""
        if self._bytes > LARGEST:
            raise ConfigurationError(
                f"the weights have {self._bytes:,} bytes; an ONNX file holds at most {LARGEST:,}. Write "
                "a safetensors file instead"
            )
        helper, constants = self.onnx.helper, [tensor for _, tensor in self._constants.values()]
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="ffnn_gpu", producer_version=__version__
        )
        helper.set_model_props(model, metadata)
        self.onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content

    def _fresh(self, kind: str) -> str:
        while True:
            self._count += 1
            name = f"{kind}_{self._count}"
            if name not in self._taken:
                return name

    def _declared(self, name: str, dtype: DTypeLike, shape: tuple[str | int, ...]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), shape)

    def _type(self, dtype: DTypeLike) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
