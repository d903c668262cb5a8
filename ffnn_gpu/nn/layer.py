"""The base class of layers, and the contract that every layer satisfies.

Contract
- A layer is a frozen dataclass of configuration, without arrays. So it can be compared, printed, saved, and
  shared by networks and threads.
- The arguments are `backend, p, x | da, buf`: backend, parameters, input or gradient, and memory. A pass
  reads and writes nothing else.
- `forward` writes only `buf`, including the values that `backward` needs. It does not change `x`.
- `backward` writes only `p.d*`, `buf.dx` and the layer's running statistics in `p`. It may overwrite `da`.
- Gradients are assigned in place, `p.dW[...] = …` or `out=p.dW`, not accumulated. Their old values are lost.
- `backward` is the exact vector–Jacobian product of `forward`. It returns dx, or None if `buf.dx` is None
  because dx is not needed.
- A workspace is made for training or for inference. For inference every buffer except `a` is None.

To add a layer: define a frozen dataclass that derives from `Layer` in a new file in `layers/`, with
`forward`, `backward` and the shapes it needs. Test it by `check_gradients` of ffnn_gpu.testing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Layer:
    """A function from rows of width I to rows of width `output_width(I)`, and its adjoint.

    Attributes:
        least_rows: the smallest training batch that its statistics are defined for.
        side_by_side: True if the layers inside it all read its x; else each reads the output of the last.
    """

    least_rows: ClassVar[int] = 1
    side_by_side: ClassVar[bool] = False

    def __repr__(self) -> str:
        """Return the call that creates this layer, without defaults: Dense(128, relu)."""
        arguments, by_position = [], True
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.generic):
                value = value.item()  # np.int64(10) could not be read back
            if value == entry.default:
                by_position = False
            else:
                arguments.append(repr(value) if by_position else f"{entry.name}={value!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def output_width(self, I: int) -> int:
        """Return O, the number of columns of the output."""
        return I

    @property
    def code_levels(self) -> tuple[int, ...]:
        """Return n_1, …, n_K if the last K columns of x hold category codes in [0, n_k); else ()."""
        return ()

    @property
    def schedules(self) -> tuple[Any, ...]:
        """Return the schedules that the layer and the layers inside it follow in a training run.

        forward reads the current factor from `buf.stream.factor(schedule)`.
        """
        return tuple(each for layer in getattr(self, "layers", ()) for each in layer.schedules)

    def parameter_shapes(self, I: int) -> Shapes:
        """Return name → shape of the parameters. Weight decay applies to parameters of two dimensions."""
        return {}

    def rates(self) -> dict[str, Any]:
        """Return name → `Rate` of parameters whose factors differ from the default.

        The layers inside a layer have their own.
        """
        return {}

    def state_shapes(self, I: int) -> Shapes:
        """Return name → shape of running statistics, which are learnt without a gradient."""
        return {}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        """Return name → shape of the buffers of one pass: the output `a`, the input's gradient `dx`, others.

        `forward` allocates any other memory by `backend.empty`.
        """
        return {"a": (B, self.output_width(I)), "dx": (B, I)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, Any]:
        """Return name → initial array for every parameter and running statistic."""
        return {}

    def flops(self, I: int) -> int:
        """Floating-point operations of forward for one row."""
        return self.output_width(I)

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        """Return the output (B, O) for the input x (B, I)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        """Return dx (B, I) for da (B, O), after the forward pass that filled buf."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")


def all_layers(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield these layers, each before the layers inside it."""
    for layer in layers:
        yield layer
        yield from all_layers(getattr(layer, "layers", ()))


def levels_of(layers: Sequence[Layer], n_in: int, dtype: np.dtype) -> tuple[int, ...]:
    """Return the numbers of categories in the last columns of x. Raises ConfigurationError."""
    levels: tuple[int, ...] = layers[0].code_levels if layers else ()
    for k, layer in enumerate(layers):
        if k and layer.code_levels:
            raise ConfigurationError(f"layer {k} is {layer!r}; it reads codes of x, so it must be layer 0")
    exact = int(2 / eps(dtype))
    for column, n in enumerate(levels, n_in - len(levels)):
        if n > exact:
            raise ConfigurationError(
                f"column {column} of x has {n} categories; {dtype} stores whole numbers exactly up to "
                f"{exact}. Use a wider dtype"
            )
    return levels
