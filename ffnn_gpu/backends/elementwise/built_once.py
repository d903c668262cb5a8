"""Check the trace of a formula, build code from it once, and keep the reason if there is none."""

import functools
import inspect
import logging
import types
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends.elementwise.expression import Expression, Kind, evaluate
from ffnn_gpu.backends.elementwise.trace import MODULE, Symbol, UntraceableError, result, trace, where_defined
from ffnn_gpu.backends.reference.special import erfc

MOST = 256  # formulas whose code is kept, of each kind
MOMENT, NUMBER = "moment", "number"  # stand for a vector and a float among the settings of a rule
SAMPLES, SPREAD = 97, 4.0  # points at which a trace is compared with its formula, and their scale
CLOSE = 1e-3  # the largest difference, relative and absolute
Built = TypeVar("Built")
log = logging.getLogger("ffnn_gpu")


def once(build: Callable[..., Built]) -> Callable[..., Built]:
    """Decorator: keep what is built, and each refusal, which is logged once.

    What is built must not refer to the formulas of its key: it is kept, but they are not.
    """

    @functools.lru_cache(MOST)
    def kept(*key: Any) -> Built | UntraceableError:
        try:
            return build(*(each.formula if isinstance(each, _Formula) else each for each in key))
        except UntraceableError as why:
            log.info("%s", why)
            return UntraceableError(str(why))

    @functools.wraps(build)
    def get(*key: Any) -> Built:
        found = kept(*(_Formula(each) if callable(each) else each for each in key))
        if isinstance(found, UntraceableError):
            raise UntraceableError(str(found))
        return found

    return get


class _Formula:
    """A function, or a method of an object, as a key that does not keep either alive.

    It equals the key of the same function of the same object. Why not of an equal object: two activations of
    one name are equal, whatever their formulas.
    """

    __slots__ = ("function", "hash", "owner")

    def __init__(self, formula: Any) -> None:
        owner = formula.__self__ if inspect.ismethod(formula) else None
        function = formula if owner is None else formula.__func__
        self.owner, self.function = None if owner is None else _weak(owner), _weak(function)
        self.hash = id(owner) ^ id(function)

    @property
    def formula(self) -> Any:
        """The formula, while it is alive."""
        function = self.function()
        return function if self.owner is None else types.MethodType(function, self.owner())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Formula) or (self.owner is None) != (other.owner is None):
            return False
        pairs = [(self.function, other.function)]
        pairs += [] if self.owner is None or other.owner is None else [(self.owner, other.owner)]
        return self is other or all(a() is not None and a() is b() for a, b in pairs)

    def __hash__(self) -> int:
        return self.hash


def _weak(thing: Any) -> Callable[[], Any]:
    """Return a weak reference to a thing, or a strong one if its type has no weak references."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


_of_owners: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def once_for_owner(formula: Callable[..., Any], key: Any, build: Callable[[], Built]) -> Built:
    """Return build(), kept for this key as long as the object lives whose method the formula is.

    A refusal is kept and logged once, with the formula's name.
    Why: a search over constants makes many optimizers, whose loops are not needed afterwards.
    """
    kept = _of_owners.setdefault(getattr(formula, "__self__", formula), {})
    if key not in kept:
        try:
            kept[key] = build()
        except UntraceableError as why:
            kept[key] = UntraceableError(f"{where_defined(formula)} is not compiled: {why}")
            log.info("%s", kept[key])
    if isinstance(kept[key], UntraceableError):
        raise UntraceableError(str(kept[key]))
    found: Built = kept[key]
    return found


def check(formula: Callable[..., Any], dtype: Any, inputs: int, module: Any = MODULE) -> Expression:
    """Return the trace of formula(xp, x0, x1, …), compared with the formula itself at samples.

    module: the xp of the trace.

    Raises UntraceableError, with the formula's name, if they differ or there is no trace.
    """
    names = [f"x{k}" for k in range(inputs)]
    values = dict(zip(names, _samples(dtype, inputs), strict=True))

    def program(*x: Symbol) -> Expression:
        given = [each.node for each in x]
        value = formula(module, *x)
        if any(each.node is not node for each, node in zip(x, given, strict=True)):
            raise UntraceableError("it changes an argument in place")
        return result(given[0].graph, value)

    try:
        traced: Expression = trace(program, dtype, dict.fromkeys(names, "array"))
        want = _called(formula, *(x.copy() for x in values.values()))
        if inputs > 1 and np.ndim(want) == 0:
            raise UntraceableError("it returns one number instead of one for each element, which a loss sums")
        _require_same(traced, values, want)
    except UntraceableError as why:
        raise UntraceableError(f"{where_defined(formula)} is not compiled: {why}") from why
    return traced


def check_rule(formula: Callable[..., Any], dtype: Any, settings: tuple[Any, ...]) -> None:
    """Compare the trace of a user's rule, formula(xp, θ, g, η, t, *settings), with the rule at samples.

    Raises UntraceableError, without the formula's name, if they differ or there is no trace.

    Args:
        settings: the rule's other arguments, with MOMENT and NUMBER in the places of vectors and floats.
    """
    dtype = np.dtype(dtype)
    kinds: dict[str, Kind] = {"theta": "array", "g": "array", "lr": "number", "t": "number"}
    values: dict[str, Any] = dict(zip(kinds, (*_samples(dtype, 2), 0.5, 3.0), strict=True))
    for k, (value, vector) in enumerate(zip(settings, _samples(dtype, 2 + len(settings))[2:], strict=True)):
        if value in (MOMENT, NUMBER):
            kinds[f"s{k}"], values[f"s{k}"] = ("array", vector) if value == MOMENT else ("number", 0.75)
    changed = [name for name, kind in kinds.items() if kind == "array" and name != "g"]

    def call(xp: Any, given: dict[str, Any]) -> None:
        rates = (given[name].astype(dtype) for name in ("lr", "t"))
        others = (given.get(f"s{k}", value) for k, value in enumerate(settings))
        formula(xp, given["theta"], given["g"], *rates, *others)

    def program(*symbols: Symbol) -> list[Expression]:
        given = dict(zip(kinds, symbols, strict=True))
        call(MODULE, given)
        return [given[name].node for name in changed]

    traced = trace(program, dtype, kinds)
    given = {name: value.copy() if kinds[name] == "array" else value for name, value in values.items()}
    given |= {name: np.float64(given[name]) for name in ("lr", "t")}
    _called(lambda xp: call(xp, given))
    for name, expression in zip(changed, traced, strict=True):
        _require_same(expression, values, given[name])


def _samples(dtype: Any, vectors: int) -> HostArray:
    return np.random.default_rng(0).normal(0, SPREAD, (vectors, SAMPLES)).astype(dtype)


def _called(formula: Callable[..., Any], *args: Any) -> Any:
    """Return formula(np, *args)."""
    try:
        with np.errstate(all="ignore"):
            return formula(np, *args)
    except Exception as error:
        raise UntraceableError(f"it raises {type(error).__name__} at a sample: {error}") from error


def _require_same(traced: Expression, values: dict[str, Any], want: Any) -> None:
    special = {"erfc": functools.partial(erfc, np), "erf": lambda x: 1 - erfc(np, x)}
    with np.errstate(all="ignore"):
        if not np.allclose(evaluate(traced, values, special), want, CLOSE, CLOSE, equal_nan=True):
            raise UntraceableError("its values depend on more than its arguments")
