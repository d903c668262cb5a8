"""The operations of a pack on a GPU: one launch for all members, and one product for all members.

A product of R members is a strided-batched product of cublasLt. Any other operation of TOGETHER is called for
each member as for a plain network, but its launches are collected. Then the first launches of all members
become one, the second ones, and so on: see `Kernels.launch_together`. So a member's numbers are those of the
plain network layer by layer (fused/ rounds δ and db otherwise), and an operation needs no code of its own.

An operation that is not in TOGETHER, and one that no kernel computes, runs member by member: array functions
between its launches would not wait for them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.branches import RULES
from ffnn_gpu.backends.cuda.kernels import NoKernelError
from ffnn_gpu.backends.cuda.operations import bias_activation
from ffnn_gpu.backends.cuda.products import fastest_affine, fastest_gradients
from ffnn_gpu.backends.reference.members import Members, Pack, of_member, packs_among
from ffnn_gpu.backends.reference.muon import without_penalties
from ffnn_gpu.backends.reference.updates import Update

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

TOGETHER = {
    "activate", "activation_backward", "dropout_mask", "dropout", "dropout_forward", "dropout_backward",
    "scaled", "column_sum",
    "softmax", "softmax_backward", "log_softmax", "log_softmax_backward",
    "layer_norm", "layer_norm_backward", "batch_norm", "batch_norm_backward", "batch_norm_inference",
    "periodic", "periodic_backward", "pointwise_loss", "cross_entropy", "softmax_cross_entropy",
    "gradient_factor", "muon_direction", "muon_step", "own_rule", *RULES,
}  # fmt: skip


class PackOnDevice(Pack):
    """The operations of a CupyBackend for R members."""

    _backend: "CupyBackend"

    def _each(self, name: str, *args: Any, **named: Any) -> Any:
        if name not in OF_PACK or not packs_among((*args, *named.values())):
            return super()._each(name, *args, **named)
        call = partial(OF_PACK[name], self, *args, **named)
        apart = partial(super()._each, name, *args, **named)
        branches = self._backend.branches
        if branches is not None:
            return self._backend.on_device(branches.run_pack, name, call, apart, *args, **named)
        try:
            return self._backend.on_device(call)
        except NoKernelError:  # raised before anything is written
            return apart()

    def collect(self, operation: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Return operation(backend, …) for all members, by the launches that it makes for each."""
        backend, kernels, results = self._backend, self._backend.kernels, list[Any]()
        packs, memory = packs_among((*args, *named.values())), list[Array]()
        with kernels.collecting(self._R) as collected:
            for r in range(self._R):
                collected.member = r
                own, own_named, views = of_member(args, named, packs, r)
                results.append(operation(self._view(r, memory), *own, **own_named))
        kernels.launch_together(collected, backend.table)
        if memory:
            return memory[0]
        return self._result(packs, views, results)

    def _view(self, r: int, memory: list[Array]) -> "CupyBackend":
        """Return the backend with an `empty` that returns member r's part of an array for all members."""
        view, made = object.__new__(type(self._backend)), iter(memory)

        def empty(shape: tuple[int, ...], dtype: Any, lane: int = 0) -> Array:
            if r == 0:
                memory.append(self._backend.empty((self._R, *shape), dtype))
            return next(made)[r]

        vars(view).update(vars(self._backend), empty=empty)
        return view


def _launches(name: str) -> Callable[..., Any]:
    """Return the operation of this name for all members, by the launches that it makes for each."""

    def run(pack: PackOnDevice, *args: Any, **named: Any) -> Any:
        operation = getattr(type(pack._backend), name).__wrapped__  # without a device and branches of its own
        return pack.collect(operation, *args, **named)

    return run


def _gemm(pack: PackOnDevice, A: Any, B: Any, out: Members) -> Members:
    lt = pack._backend.cublaslt
    if lt is None or lt.attempt(_whole(A), _whole(B), _whole(out)):
        raise NoKernelError
    return out


def _affine(
    pack: PackOnDevice,
    x: Any,
    W: Members,
    b: Members | None,
    phi: Any,
    out: Members,
    s: Members | None = None,
    factor: float = 1.0,
) -> Members:
    backend = pack._backend
    if backend.cublaslt is None or factor != 1:
        raise NoKernelError
    S = backend.suffix(*(None if each is None else each.of(0) for each in (out, b, s)))
    kernel = formulas.bias_activation(S, phi)

    def plain() -> None:
        _gemm(pack, x, W, out)
        if b is not None or s is not None or phi.name != "identity":
            pack.collect(lambda backend, *arrays: bias_activation(backend, kernel, *arrays), out, b, s)

    if b is None:
        plain()
    else:
        fastest_affine(backend, _whole(x), _whole(W), _whole(b), phi, _whole(out), _whole(s), plain)
    return out


def _affine_gradients(pack: PackOnDevice, x: Any, delta: Members, dW: Members, db: Members | None) -> None:
    if db is not None:
        pack._backend.suffix(delta.of(0), wide=(db.of(0),))

    def plain() -> None:
        _gemm(pack, x.T, delta, dW)
        if db is not None:
            _launches("column_sum")(pack, delta, db)

    fastest_gradients(pack._backend, _whole(x.T), _whole(delta), _whole(dW), _whole(db), plain)


def _muon(
    pack: PackOnDevice,
    update: Update,
    m: Members,
    shape: tuple[int, int, int],
    momentum: float,
    nesterov: bool,
) -> None:
    (n, I, O), backend, R = shape, pack._backend, pack._R
    U = Members(backend.zeros((R, n * I * O), m.dtype))
    _launches("muon_direction")(pack, update, m, U, momentum, nesterov)
    X = backend.orthogonalized(U.stacked.reshape(R * n, I, O)).reshape(R, n * I * O)
    _launches("muon_step")(pack, without_penalties(update), Members(X), math.sqrt(max(1.0, O / I)))


def _whole(array: Any) -> Any:
    """Return the array of all members; one that they share as it is."""
    if not isinstance(array, Members):
        return array
    return array.stacked.transpose(0, 2, 1) if array.turned else array.stacked


OF_PACK: dict[str, Callable[..., Any]] = {name: _launches(name) for name in TOGETHER} | {
    "gemm": _gemm, "affine": _affine, "affine_gradients": _affine_gradients, "muon": _muon,
}  # fmt: skip
