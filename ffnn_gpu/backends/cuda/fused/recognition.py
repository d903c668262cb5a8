"""Which operations are a stack of Dense layers: their stack, and the arrays it reads and writes.

The operations of a prediction, and those of a training step; those in brackets may be absent:

    affine …
    {affine  [dropout_forward]} …  loss  [scaled …]
    {[dropout_backward]  activation_backward  affine_gradients  gemm} … without the last gemm
"""

from dataclasses import dataclass, field
from typing import Any

from numpy import int32

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda.fused.stack import (
    CROSS_ENTROPY,
    MOST_LAYERS,
    WEIGHTED_CROSS_ENTROPY,
    Stack,
    StackLoss,
    dense_layer,
    pointwise_loss,
)
from ffnn_gpu.backends.cuda.kernels import NoKernelError

LOSSES = "softmax_cross_entropy", "pointwise_loss"
Operation = tuple[str, dict[str, Any]]  # name, arguments by name
PACK = 16  # bytes: rows are read in such parts


@dataclass(eq=False)
class Arrays:
    """The arrays of a stack, in the order of the kernels' parameters.

    parameters, gradients: W and b of each layer, dW and db; None if the layer has no bias.
    dropouts: the arguments of dropout_forward, in the order of the layers that have one.
    """

    x: Array
    z: Array
    parameters: list[Array]
    y: Array = None
    weight: Array = None
    class_weight: Array = None
    value: Array = None
    smoothing: float = 0.0
    share: Array = None
    scale: Array = None
    gradients: list[Array] = field(default_factory=list)
    dropouts: list[dict[str, Any]] = field(default_factory=list)


def recognized(backend: Any, issued: list[Operation], value: Array | None) -> tuple[Stack, Arrays] | None:
    """Return the stack that these operations are, and its arrays; None if they are none.

    value: where the loss is to be; None for a prediction.
    """
    try:
        layers, rest = _layers(backend, issued)
        first, last = layers[0], layers[-1]
        parameters = [array for layer in layers for array in (layer["W"], layer["b"])]
        arrays = Arrays(first["x"], last["out"], parameters, value=value)
        arrays.dropouts = [layer["masked"] for layer in layers if layer["masked"]]
        loss = None if value is None else _training_step(backend, layers, rest, arrays)
        _require(value is not None or len(layers) == len(issued))
        S = backend.suffix(first["x"])
        shapes = tuple(
            dense_layer(layer["W"].shape[0], layer["W"].shape[1], layer["phi"], layer["masked"] is not None)
            for layer in layers
        )
    except NoKernelError:
        return None
    stack = Stack(S, shapes, loss, backend.shared_memory)
    return (stack, arrays) if stack.warps else None


def loss_fits(backend: Any, issued: list[Operation], loss: Operation) -> bool:
    """Return whether these operations and this loss may begin a training step."""
    try:
        layers, rest = _layers(backend, issued)
        _require(not rest)
        _loss(backend, layers[-1], *loss)
    except NoKernelError:
        return False
    return True


def _layers(backend: Any, issued: list[Operation]) -> tuple[list[dict[str, Any]], list[Operation]]:
    """Return the layers at the beginning, each of the output of the one before it, and the other operations.

    A layer is the arguments of its product, with `masked`: None, or the arguments of its dropout.
    """
    layers, rest = list[dict[str, Any]](), list(issued)
    x = rest[0][1].get("x") if rest else None
    while rest and rest[0][0] == "affine":
        layer = rest.pop(0)[1] | {"masked": None}
        _require(_same(layer["x"], x) and layer.get("factor", 1.0) == 1)
        backend.suffix(layer["x"], layer["W"], layer["b"], layer["out"], layer.get("s"))
        _require(all(layer[name].data.ptr % PACK == 0 for name in ("x", "W", "out")))
        x = layer["out"]
        if rest and rest[0][0] == "dropout_forward":
            layer["masked"] = masked = rest.pop(0)[1]
            _require(_same(masked["x"], x))
            x = masked["out"]
        layers.append(layer)
    masks = [layer["masked"] for layer in layers if layer["masked"]]
    _require(layers and layers[-1]["masked"] is None and len(layers) <= MOST_LAYERS)
    _require(all(mask[key] == masks[0][key] for mask in masks for key in ("seed", "row")))
    _require(all(_same(mask["step"], masks[0]["step"]) for mask in masks))
    return layers, rest


def _training_step(
    backend: Any, layers: list[dict[str, Any]], issued: list[Operation], arrays: Arrays
) -> StackLoss:
    """Fill `arrays` from the operations after the layers, and return the loss."""
    (name, given), *rest = issued
    loss = _loss(backend, layers[-1], name, given)
    arrays.y, arrays.weight = given["y"], given["weight"]
    arrays.class_weight, arrays.smoothing = given.get("class_weight"), given.get("label_smoothing", 0.0)
    da = given["dz"]
    while rest and rest[0][0] == "scaled":
        _, given = rest.pop(0)
        _require(_same(given["x"], da))
        of = "share" if given["out"] is da else "scale"
        _require(getattr(arrays, of) is None and arrays.scale is None)
        setattr(arrays, of, given["factor"])
        da = given["out"]
    for layer in reversed(layers):
        arrays.gradients[:0] = _layer_backward(backend, layer, rest, da)
        if layer is not layers[0]:
            given = _next(rest, "gemm")
            _require(_same(given["A"], da) and _same(given["B"], layer["W"].T))
            da = given["out"]
    _require(not rest)
    return loss


def _layer_backward(backend: Any, layer: dict[str, Any], rest: list[Operation], da: Array) -> list[Array]:
    """Take the operations that turn da into δ and the gradients of a layer, and return dW and db."""
    if layer["masked"]:
        given = _next(rest, "dropout_backward")
        _require(_same(given["da"], da) and _same_mask(given, layer["masked"]))
    given = _next(rest, "activation_backward")
    _require(given["phi"] is layer["phi"] and given.get("s") is layer.get("s"))
    _require(_same(given["da"], da) and _same(given["a"], layer["out"]))
    given = _next(rest, "affine_gradients")
    _require(_same(given["x"], layer["x"]) and _same(given["delta"], da))
    _require((given["db"] is None) == (layer["b"] is None))
    backend.suffix(layer["x"], wide=(given["dW"], given["db"]))
    return [given["dW"], given["db"]]


def _next(rest: list[Operation], name: str) -> dict[str, Any]:
    """Take the next operation, which must have this name, and return its arguments."""
    _require(rest and rest[0][0] == name)
    return rest.pop(0)[1]


def _loss(backend: Any, layer: dict[str, Any], name: str, given: dict[str, Any]) -> StackLoss:
    """Return the loss of the outputs of this layer."""
    z, y, weight, dz = (given[key] for key in ("z", "y", "weight", "dz"))
    _require(dz is not None and _same(z, layer["out"]))
    if name == "softmax_cross_entropy":
        labels = y.ndim == 1 and y.dtype == int32 and y.flags.c_contiguous
        _require(labels)
        backend.suffix(z, wide=(weight, given["class_weight"]), dz=dz)
        return CROSS_ENTROPY if given["class_weight"] is None else WEIGHTED_CROSS_ENTROPY
    backend.suffix(z, wide=(y, weight), dz=dz)
    return pointwise_loss(given["kind"])


def _same_mask(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two operations of dropout draw the same mask."""
    numbers = all(a[key] == b[key] for key in ("rate", "seed", "layer", "row"))
    return numbers and _same(a["step"], b["step"]) and a.get("factor") is b.get("factor")


def _same(a: Array, b: Array) -> bool:
    return bool(a is b or (a.data.ptr == b.data.ptr and a.shape == b.shape and a.strides == b.strides))


def _require(condition: Any) -> None:
    if not condition:
        raise NoKernelError
