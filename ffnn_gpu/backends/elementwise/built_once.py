"""Check the trace of a formula, build code from it once, and keep the reason if there is none."""

import functools
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends.elementwise.expression import Expression, evaluate
from ffnn_gpu.backends.elementwise.trace import MODULE, UntraceableError, result, trace, where_defined
from ffnn_gpu.backends.reference.special import erfc

MOST = 512  # formulas whose code is kept
SAMPLES, SPREAD = 97, 4.0  # points at which a trace is compared with its formula, and their scale
CLOSE = 1e-3  # the largest difference, relative and absolute
Built = TypeVar("Built")
log = logging.getLogger("ffnn_gpu")


def once(build: Callable[..., Built]) -> Callable[..., Built]:
    """Decorator: keep what is built, and each refusal, which is logged once."""

    @functools.lru_cache(MOST)
    def kept(*key: Any) -> Built | UntraceableError:
        try:
            return build(*(each.method if isinstance(each, _Method) else each for each in key))
        except UntraceableError as why:
            log.info("%s", why)
            return UntraceableError(str(why))

    @functools.wraps(build)
    def get(*key: Any) -> Built:
        found = kept(*(_Method(each) if inspect.ismethod(each) else each for each in key))
        if isinstance(found, UntraceableError):
            raise UntraceableError(str(found))
        return found

    return get


class _Method:
    """A method as a key, which equals the same method of the same object.

    Why: two activations of one name are equal, whatever their formulas.
    """

    def __init__(self, method: Any) -> None:
        self.method = method

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Method)
            and self.method.__self__ is other.method.__self__
            and self.method.__func__ is other.method.__func__
        )

    def __hash__(self) -> int:
        return id(self.method.__self__) ^ hash(self.method.__func__)


_of_owners: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def once_for_owner(formula: Callable[..., Any], key: Any, build: Callable[[], Built]) -> Built:
    """Return build(), kept for this key as long as the object lives whose method the formula is.

    A refusal is kept and logged once, with the formula's name.
    Why: if `once` kept a user's optimizer alive, its moments would stay in memory too.
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


def check(formula: Callable[..., Any], dtype: Any, inputs: int) -> Expression:
    """Return the trace of formula(xp, x0, x1, …), compared with the formula itself at samples.

    Raises UntraceableError, with the formula's name, if they differ or there is no trace.
    """
    names = [f"x{k}" for k in range(inputs)]
    points = np.random.default_rng(0).normal(0, SPREAD, (inputs, SAMPLES)).astype(dtype)
    values = dict(zip(names, points, strict=True))
    special = {"erfc": functools.partial(erfc, np), "erf": lambda x: 1 - erfc(np, x)}
    try:
        traced: Expression = trace(
            lambda *x: result(x[0].node.graph, formula(MODULE, *x)), dtype, dict.fromkeys(names, "array")
        )
        with np.errstate(all="ignore"):
            want = _called(formula, *points)
            same = np.allclose(evaluate(traced, values, special), want, CLOSE, CLOSE, equal_nan=True)
        if not same:
            raise UntraceableError("its values depend on more than its arguments")
    except UntraceableError as why:
        raise UntraceableError(f"{where_defined(formula)} is not compiled: {why}") from why
    return traced


def _called(formula: Callable[..., Any], *points: HostArray) -> Any:
    try:
        return formula(np, *points)
    except Exception as error:
        raise UntraceableError(f"it raises {type(error).__name__} at a sample: {error}") from error
