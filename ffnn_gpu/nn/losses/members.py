"""A loss of the outputs z (R, B, O) of a pack, and its arguments.

Targets and weights are shared by all members, or they have an axis of R members in front: class indices (B,)
or (R, B), other targets (B, O) or (R, B, O), weights (B,) or (R, B). For one output, targets are (B,) or
(R, B) too. Where R = B = O, a matrix is the targets (B, O) of all members.
"""

from typing import Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends import Backend
from ffnn_gpu.backends.reference.members import Members, member_of
from ffnn_gpu.errors import ConfigurationError, ShapeError


def of_members(
    loss: Any, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
) -> Array:
    """Return the members' losses (R,) and write their gradients to dz. Raises ConfigurationError."""
    _require_ours(loss)
    own = y.ndim == 3 or (y.ndim == 2 and y.shape != z.shape[1:])
    weighted = sample_weight is not None and sample_weight.ndim == 2
    operations = backend.pack(len(z))
    w = Members(sample_weight) if weighted else sample_weight
    packs = Members(z), Members(y) if own else y, None if dz is None else Members(dz), w
    if not loss.reads_values:
        return loss.value_and_gradient(operations, *packs)
    each = ([member_of(array, r) for array in packs] for r in range(len(z)))
    return backend.as_vector([loss.value_and_gradient(backend, *arrays) for arrays in each])


def _require_ours(loss: Any) -> None:
    """Raise ConfigurationError unless this loss and the one within it are of this package."""
    if not type(loss).__module__.startswith("ffnn_gpu."):
        raise ConfigurationError(
            f"a pack cannot compute {type(loss).__name__}, which is no loss of this package and may use "
            "arrays directly; use a loss of ffnn_gpu.losses, or train the networks one by one"
        )
    if hasattr(loss, "loss"):  # MeanOverRows
        _require_ours(loss.loss)


def checked_of_members(
    loss: Any, backend: Backend, z: Array, y: Any, dz: Array | None, sample_weight: Any
) -> tuple[Array, Array | None]:
    """Return y and sample_weight, checked and converted for each member or for all."""
    if dz is not None and dz.shape != z.shape:
        raise ShapeError(f"dz has shape {dz.shape}; z has {z.shape}")
    (R, B, O), y = z.shape, backend.admit(y)
    w = None if sample_weight is None else backend.admit(sample_weight)
    own_y = y.ndim == 3 or (y.ndim == 2 and y.shape == (R, B) and y.shape != (B, O))
    own_w = getattr(w, "ndim", 1) == 2
    for array, own, name in ((y, own_y, "y"), (w, own_w, "sample_weight")):
        shape = getattr(array, "shape", ())
        if own and shape[:2] != (R, B):
            raise ShapeError(f"{name} has shape {shape}; z has {R} members and {B} rows, {z.shape}")
    y, w = Members(y) if own_y else y, Members(w) if own_w else w
    rows = dz if dz is None else dz[0]
    each = [
        loss.checked_arguments(backend, z[0], member_of(y, r), rows, member_of(w, r))
        for r in range(R if own_y or own_w else 1)
    ]
    targets, weights = zip(*each, strict=True)
    return (
        _stacked(backend, targets) if own_y else targets[0],
        _stacked(backend, weights) if own_w else weights[0],
    )


def _stacked(backend: Backend, arrays: Any) -> Array:
    out = backend.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for place, array in enumerate(arrays):
        backend.copy(array, out=out[place])
    return out
