"""Operations for packs: R networks of one architecture, which are trained as one.

Each array of a pack has a leading axis of R members. A layer or a loss receives it as `Members`, which has
the shape that one member sees, and gives it to the operations of a `Pack`. So layers and losses do not know
R.

Why each operation runs member by member: member r's numbers are then the plain network's, bit for bit, for
every operation that a backend has or will have. A backend makes it fast by `Backend.member`: one that records
steps returns a recorder for each member, and the members' commands run side by side.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.reference.updates import Update

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


class PerMember(tuple[Any, ...]):
    """Values of which each member has one, such as seeds."""

    __slots__ = ()

    def of(self, r: int) -> Any:
        """Return the value of member r."""
        return self[r]


class Members:
    """An array (R, …) as each of its members sees it.

    Attributes:
        stacked: the whole array; members may lie apart in memory, the numbers of one member may not.
        turned: whether a member's array is the transpose of its matrix in `stacked`.
    """

    __slots__ = ("stacked", "turned")

    def __init__(self, stacked: Array, turned: bool = False) -> None:
        self.stacked, self.turned = stacked, turned

    def of(self, r: int) -> Array:
        """Return the array of member r, a view."""
        return self.stacked[r].T if self.turned else self.stacked[r]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one member's array."""
        shape: tuple[int, ...] = self.stacked.shape[1:]
        return shape[::-1] if self.turned else shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.stacked.dtype

    T = property(lambda self: Members(self.stacked, not self.turned), doc="The transposes of the matrices.")


class Pack:
    """The operations of `backend` for R members: each is done for one member after the other.

    `Members` and `PerMember` give each member its own argument, and so they do in an `Update`; all members
    share any other argument. An operation returns that one of its arguments which it has returned for the
    members, or the vector (R,) of the numbers that it has returned.
    """

    def __init__(self, backend: "Backend", R: int) -> None:
        self._backend, self._R = backend, R

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return partial(self._each, name) if callable(found) else found

    def _each(self, name: str, *args: Any, **named: Any) -> Any:
        packs = packs_among((*args, *named.values()))
        if not packs:
            return getattr(self._backend, name)(*args, **named)
        results: list[Any] = []
        for r in range(self._R):
            own, own_named, views = of_member(args, named, packs, r)
            results.append(getattr(self._backend.member(r), name)(*own, **own_named))
        return self._result(packs, views, results)

    def _result(self, packs: list[Members], views: dict[int, Array], results: list[Any]) -> Any:
        """Return what the operation returns. `views` are the arguments of the last member."""
        last = results[-1]
        if last is None:
            return None
        returned = next((pack for pack in packs if views[id(pack)] is last), None)
        return self._backend.as_vector(results) if returned is None else returned


def packs_among(given: Any) -> list[Members]:
    """Return all Members among arguments, those of an Update included."""
    found: list[Members] = []
    for argument in given:
        if isinstance(argument, Members):
            found.append(argument)
        elif isinstance(argument, Update):
            found += packs_among(argument)
    return found


def of_member(
    args: tuple[Any, ...], named: dict[str, Any], packs: list[Members], r: int
) -> tuple[list[Any], dict[str, Any], dict[int, Array]]:
    """Return member r's own arguments, and id of Members → its array."""
    views = {id(pack): pack.of(r) for pack in packs}
    own = [_argument(argument, views, r) for argument in args]
    return own, {key: _argument(argument, views, r) for key, argument in named.items()}, views


def _argument(argument: Any, views: dict[int, Array], r: int) -> Any:
    if isinstance(argument, Members):
        return views[id(argument)]
    if isinstance(argument, Update):
        return Update(*(_argument(each, views, r) for each in argument))
    return argument.of(r) if isinstance(argument, PerMember) else argument


class FlatPack:
    """The operations of `backend` on the flat vectors of R members, with a norm of ∇θ for each member.

    `control` is Members of (R, 2). Nothing is skipped, because a pack has no loss scale.
    """

    def __init__(self, backend: "Backend", R: int) -> None:
        self._backend, self._R = backend, R

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def gradient_factor(
        self, grad: Array, limit: float | None, control: Members, loss_scale: Array | None
    ) -> None:
        """control_r ← [c_r, 0] with c_r = min(1, limit/‖∇θ_r‖₂)"""
        blocks = Members(grad.reshape(self._R, len(grad) // self._R))
        self._backend.pack(self._R).gradient_factor(blocks, limit, control, loss_scale)

    def advance(self, scalars: Array, step: Array, control: Members | None, lr: Array = None) -> None:
        self._backend.advance(scalars, step, None, lr)

    def advance_product(self, scalars: Array, beta1: float, psi: float, control: Members | None) -> None:
        self._backend.advance_product(scalars, beta1, psi, None)


def stacked(array: Any) -> Any:
    """Return the whole array of Members; anything else as it is."""
    return array.stacked if isinstance(array, Members) else array


def member_of(array: Any, r: int) -> Any:
    """Return the array of member r of Members; anything else as it is."""
    return array.of(r) if isinstance(array, Members) else array
