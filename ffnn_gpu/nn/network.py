"""A stack of layers with its parameters on one device."""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.precision import is_floating, underflow_is_zero
from ffnn_gpu.arrays.rows import Rows, blocks
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.reference.members import Members, stacked
from ffnn_gpu.checks import renamed, require_positive_int, seed_number
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn import prediction
from ffnn_gpu.nn.initial_values import initialize
from ffnn_gpu.nn.layer import Layer, levels_of
from ffnn_gpu.nn.needed_buffers import needed
from ffnn_gpu.nn.pack import (
    Member,
    chosen_members,
    copy_blocks,
    in_short,
    members_of,
    require_packable,
    seeds_of,
    whole,
    with_rate,
)
from ffnn_gpu.nn.parameters import Parameters, Shapes
from ffnn_gpu.nn.rates import declared_rates, mark_outputs
from ffnn_gpu.nn.summary import summary
from ffnn_gpu.nn.workspace import RandomStream, Workspace


class Network:
    """z = f_L(… f_2(f_1(x)))        x (B, n_in)   z (B, n_out)

    With `members`, it is a pack of R networks with these layers, trained as one: z (R, B, n_out), and x is
    (B, n_in) for all members or (R, B, n_in).

    Args:
        device: "auto", "numpy", "cupy", "cupy:1", or a Backend, as `get_backend` reads it.
        dtype: "float32" or "float64" for everything the network stores and computes; "bfloat16" or "float16"
            for products and activations, with θ, ∇θ, statistics, losses and outputs in float32.
        seed: of the initial values, and of dropout unless the workspace has its own.
        members: R, for networks with the seeds seed, seed + 1, …; or a list of `Member`.
    """

    @renamed(backend="device")
    def __init__(
        self,
        n_in: int,
        layers: Sequence[Layer],
        device: str | Backend = "auto",
        dtype: Any = "float32",
        seed: int = 0,
        members: int | Iterable[Member] | None = None,
    ) -> None:
        self._build(n_in, layers, device, dtype, seed, members)
        seeds = [self.seed] if self.members is None else [member.seed for member in self.members]
        initialize(self.params, self._with_widths(), seeds)

    def _build(
        self,
        n_in: int,
        layers: Sequence[Layer],
        device: str | Backend,
        dtype: Any,
        seed: int,
        members: int | Iterable[Member] | None,
    ) -> None:
        """Do everything but initialize the parameters, which are 0."""
        require_positive_int("n_in", n_in)
        if isinstance(layers, Layer):
            raise ConfigurationError(f"layers is a list: Network({n_in}, [{layers!r}])")
        stray = next((layer for layer in layers if not isinstance(layer, Layer)), None)
        if stray is not None:
            raise ConfigurationError(f"layers must hold layers such as Dense(10), not {stray!r}")
        self.n_in, self.layers, self.seed = int(n_in), tuple(layers), seed_number(seed)
        self.backend = get_backend(device)
        self.compute_dtype = self.backend.dtype(dtype)
        self.members = members_of(members, self.seed)
        if self.members is not None:
            require_packable(self.layers, self.compute_dtype, self.members)
        self.levels = levels_of(self.layers, self.n_in, self.compute_dtype)
        self.widths = [self.n_in]
        for layer in self.layers:
            self.widths.append(layer.output_width(self.widths[-1]))
        state_shapes = [layer.state_shapes(I) for layer, I in self._with_widths()]
        shapes = self._parameter_shapes()
        rates = declared_rates(self.layers, shapes)
        mark_outputs(self.layers, rates)
        factors = None if self.members is None else [(m.lr_factor, m.decay_factor) for m in self.members]
        self.params = Parameters(self.backend, shapes, state_shapes, self.compute_dtype, rates, factors)
        for layer in self.layers:
            for schedule in layer.schedules:
                self.params.factor(schedule)  # a recorded step must not make it
        self._threads = threading.local()
        self.dtype = self.params.dtype

    # ------------------------------------------------------------------ one pass

    def workspace(
        self, B: int, training: bool = True, *, input_gradient: bool = False, seed: int | None = None
    ) -> Workspace:
        """Allocate scratch for batches of up to B rows, for one thread.

        Args:
            training: False for predictions: no masks, no gradients, dropout is the identity.
            input_gradient: if True, `backward` also computes the gradient at x.
            seed: of dropout; the network's by default. Member r of a pack has seed + r, by default its own.
        """

        def shapes_of(rows: int) -> tuple[list[Shapes], int]:
            shapes = [layer.buffer_shapes(rows, I) for layer, I in self._with_widths()]
            return needed(shapes, self._parameter_shapes(), training, input_gradient)[0], self.widths[-1]

        seeds = seeds_of(self.members, self.seed if seed is None else seed_number(seed), seed is None)
        factors = None if self.members is None else tuple(m.dropout_factor for m in self.members)
        stream = RandomStream(seeds, self.params.step, factor=self.params.factor, rate_factors=factors)
        return Workspace(self.backend, self.params, shapes_of, B, training, input_gradient, stream)

    def forward(self, x: Any, ws: Workspace) -> Any:
        """Return z (B, n_out) for x (B, n_in). z is a buffer of ws, whose next pass overwrites it."""
        self.backend.require_own(x, "x")
        if x.dtype != self.compute_dtype or x.shape[1:] != (self.n_in,):
            self._require_matrix(x if self.members is None else self._of_one(x))
            x = self.backend.asarray(x, self.compute_dtype)
        return self.backend.run_forward(Network.run, self, x, ws)

    @underflow_is_zero
    def run(self, x: Any, ws: Workspace) -> Any:
        """Compute z layer by layer for an x that has been checked: its device, dtype and width fit."""
        ws.begin_forward(self.params, x.shape[-2])
        operations, x = self.operations, Members(x) if x.ndim == 3 else x
        try:
            for layer, p, buf in zip(self.layers, self.params.views, ws.buffers, strict=True):
                x = layer.forward(operations, p, x, buf)
            return x if self.members is None else whole(x, len(self.members), self.backend)
        finally:
            ws.end_pass()

    @underflow_is_zero
    def backward(self, dz: Any, ws: Workspace) -> Any:
        """Write `params.grad` from dz, the gradient at the output z of the workspace's forward pass.

        Return the gradient at x if the workspace was made with `input_gradient`, else None. dz is
        overwritten. If it does not fit, ShapeError or BackendMismatchError is raised and the pass stays
        pending.

        In float16 `params.grad` is S times the gradient, S = `params.loss_scale[0]`; the gradient at x is
        returned in float32, without S. An overflow of `params.grad` becomes infinite, and the optimizer skips
        the update. After an overflow of the gradient at x, the pass is repeated with half the S, except while
        a step is captured.
        """
        if dz is not None:  # an inference workspace has none
            self.backend.require_own(dz, "dz")
            if dz.shape != (shape := (*self.leading, ws.B, self.widths[-1])):
                raise ShapeError(f"dz has shape {dz.shape}; this pass has outputs {shape}")
        ws.begin_backward(self.params)
        scale = self.params.loss_scale
        try:
            return self._backward(dz, ws) if scale is None else self._scaled_backward(dz, ws, scale[:1])
        finally:
            ws.end_pass()

    @np.errstate(over="ignore", invalid="ignore")
    def _scaled_backward(self, dz: Any, ws: Workspace, S: Any) -> Any:
        backend, state, params = self.backend, None, self.params
        if ws.input_gradient and backend.may_wait() and backend.all_finite(dz):
            state = backend.duplicate(params.state)
        while True:
            dx = self._backward(backend.scaled(dz, S, out=ws.scaled_dz), ws)
            if dx is None:
                return None
            scale = 1.0 if state is None else float(backend.to_host(S)[0])
            if scale == 1 or backend.all_finite(dx):
                return backend.scaled(dx, 1 / S, out=backend.empty(dx.shape, self.dtype))
            backend.write(params.loss_scale, 0, max(scale / 2, 1.0))
            backend.copy(state, out=params.state)

    def _backward(self, dz: Any, ws: Workspace) -> Any:
        operations, dz = self.operations, dz if self.members is None else Members(dz)
        for layer, p, buf in reversed([*zip(self.layers, self.params.views, ws.buffers, strict=True)]):
            dz = layer.backward(operations, p, dz, buf)
            if dz is None and getattr(buf, "dx", None) is not None:
                raise ConfigurationError(
                    f"{type(layer).__name__}.backward returned None; it must return dx, because the "
                    "gradient at its input is needed"
                )
            if dz is None:
                break  # no layer before this one has parameters
        return stacked(dz) if ws.input_gradient else None

    @property
    def operations(self) -> Any:
        """Return the operations with which the layers compute: the backend's, in a pack for every member."""
        return self.backend if self.members is None else self.backend.pack(len(self.members))

    @property
    def leading(self) -> tuple[int, ...]:
        """Return the axes of the outputs before those of rows and columns: (R,) in a pack, else ()."""
        return () if self.members is None else (len(self.members),)

    def member(self, r: int) -> "Network":
        """Return member r of a pack as a network of its own, with copies of its numbers."""
        chosen, (own,) = chosen_members(self.members, [r])
        layers = [with_rate(layer, own.dropout_factor) for layer in self.layers]
        return self._with_copies(Network(self.n_in, layers, *self._settings(own.seed)), chosen)

    def select(self, chosen: Iterable[int]) -> "Network":
        """Return a pack of these members, with copies of their numbers and of the optimizers' vectors."""
        indices, own = chosen_members(self.members, chosen)
        settings = self._settings(own[0].seed)
        return self._with_copies(Network(self.n_in, self.layers, *settings, own), indices)

    def rows(self, x: Any) -> Rows:
        """Return x of any kind as Rows of the device, the host or files, uncopied; values are not checked."""
        rows = rows_of(x, self.backend.admit)
        self._require_matrix(rows.stored)
        return rows

    def admit(self, x: Any) -> Rows:
        """Return `rows(x)`. Raises DataError (index) if a value is not finite, or no code of its column."""
        rows = self.rows(x)
        self.require_valid(rows)
        return rows

    def require_valid(self, rows: Rows, what: str = "x") -> None:
        """Raise DataError (index) if a value is not finite, or no code of its column."""
        rows.require_finite(self.backend, what, self.compute_dtype)
        for part in blocks(rows) if self.levels else ():
            x = rows.matrix(self.backend, part, np.float64)  # exact; the network's type rounds to codes
            self.backend.require_codes(x, self.levels, what, part.start)

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """Return z (n, n_out) for any number of rows, as the caller's kind of array: NumPy in, NumPy out.

        Of a pack, return z (R, n, n_out).

        batch_size: rows per forward pass; None for a number that suits the device.

        Raises:
            ShapeError: x is not (n, n_in). DataError: x is not finite. DivergedError: an output is not.
        """
        return prediction.predict(self, self._threads, x, batch_size)

    # ------------------------------------------------------------------ the whole network

    @renamed(backend="device")
    def to(self, device: str | Backend) -> "Network":
        """Return a copy of this network, with its parameter values, on another device."""
        return self.copied(device, self.compute_dtype.name)

    def copied(self, device: str | Backend, dtype: str) -> "Network":
        """Return a copy of this network on another device that computes in another type."""
        twin = uninitialized(self.n_in, self.layers, device, dtype, self.seed, self.members)
        arrays = self.params.to_host().items()
        twin.params.assign({name: value.astype(twin.dtype, copy=False) for name, value in arrays})
        twin.backend.write(twin.params.step, 0, int(self.params.step[0]))
        return twin

    def computed_by(self, operations: Any, params: Parameters | None = None) -> "Network":
        """Return a network with the same layers that computes with other operations.

        operations: have a Backend's methods, on the same device. params: by default this network's own.
        """
        view = Network.__new__(Network)
        vars(view).update(vars(self), backend=operations, params=self.params if params is None else params)
        return view

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        return self.to(self.backend)

    def __reduce__(self) -> tuple[Any, ...]:
        numbers = self.params.to_host(), int(self.params.step[0])
        return _rebuild, (self.n_in, self.layers, *self._settings(self.seed), self.members, *numbers)

    def __eq__(self, other: object) -> bool:
        """Return whether the architectures are equal; parameter values are not compared."""
        if not isinstance(other, Network):
            return False
        return (self.n_in, self.layers, self.leading) == (other.n_in, other.layers, other.leading)

    def __hash__(self) -> int:
        return hash((self.n_in, self.layers))

    def __repr__(self) -> str:
        members = "" if self.members is None else f", members={in_short(self.members, self.seed)}"
        return (
            f"Network({self.n_in}, {list(self.layers)!r}, device={self.backend.name!r}, "
            f"dtype={self.compute_dtype.name!r}, seed={self.seed}{members})"
        )

    def summary(self) -> str:
        """Return a table: layer, output width, parameters, FLOPs for one row, bytes; and the totals.

        Of a pack, it is the table of one member.
        """
        flops = [layer.flops(I) for layer, I in self._with_widths()]
        sizes = zip(self.layers, self.widths[1:], self._parameter_shapes(), flops, strict=True)
        return summary([*sizes], self.widths[-1], self.dtype.itemsize)

    # ------------------------------------------------------------------ inside

    def _require_matrix(self, x: Array) -> None:
        if x.ndim != 2:
            raise ShapeError(f"x has shape {x.shape}; it must be a matrix (rows, {self.n_in})")
        if x.shape[1] != self.n_in:
            raise ShapeError(f"x has {x.shape[1]} columns; layer 0 of this network reads {self.n_in}")
        if x.dtype.kind not in "iub" and not is_floating(x.dtype):
            raise DataError(f"x has dtype {x.dtype}; a network reads real numbers")

    def _of_one(self, x: Array) -> Array:
        """Return the x of one member, for the check of its shape. Raises ShapeError."""
        if x.ndim == 3 and x.shape[0] != self.leading[0]:
            raise ShapeError(f"x has shape {x.shape}; this pack has {self.leading[0]} members")
        return x[0] if x.ndim == 3 else x

    def _settings(self, seed: int) -> tuple[Backend, str, int]:
        return self.backend, self.compute_dtype.name, seed

    def _with_copies(self, network: "Network", chosen: list[int]) -> "Network":
        copy_blocks(self.params, chosen, network.params)
        return network

    def _with_widths(self) -> list[tuple[Layer, int]]:
        return list(zip(self.layers, self.widths[:-1], strict=True))

    def _parameter_shapes(self) -> list[Shapes]:
        return [layer.parameter_shapes(I) for layer, I in self._with_widths()]


def uninitialized(
    n_in: int,
    layers: Sequence[Layer],
    device: str | Backend,
    dtype: Any,
    seed: int,
    members: int | Iterable[Member] | None = None,
) -> Network:
    """Return a network whose parameters are 0, for a caller that overwrites them."""
    network = Network.__new__(Network)
    network._build(n_in, layers, device, dtype, seed, members)
    return network


def _rebuild(*parts: Any) -> Network:
    *arguments, arrays, step = parts
    network = uninitialized(*arguments)
    network.params.assign(arrays)
    network.backend.write(network.params.step, 0, step)
    return network
