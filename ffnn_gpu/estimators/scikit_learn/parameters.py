"""The accepted values of parameters, and the layers that they describe."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from ffnn_gpu.backends import Backend
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation, get_activation
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, Embedding, LayerNorm, Residual
from ffnn_gpu.nn.losses import Loss
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.nn.schedules import SCHEDULES, Schedule
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.callbacks import Callback

LOGISTIC = "logistic"  # scikit-learn's name of sigmoid
NORMALIZATIONS = {"layer": LayerNorm, "batch": BatchNorm}
DTYPES = {"float32", "float64", "bfloat16", "float16"}

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({*ACTIVATIONS, LOGISTIC}), Activation, "array-like"],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", *SCHEDULES}), Schedule],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose", StrOptions({"bar"})],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "device": [str, Backend],
    "dtype": [StrOptions(DTYPES), type, np.dtype, None],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "normalization": [StrOptions({*NORMALIZATIONS}), None],
    "residual": ["boolean"],
    "callbacks": [list, tuple, Callback, None],
    "categorical_features": [StrOptions({"auto"}), "array-like", None],
}
"""As scikit-learn 1.9 has them, with the names and objects of this package; then the parameters beyond."""


def losses_named(*more: str) -> list[Any]:
    """Return the accepted values of `loss`: the library's losses, and scikit-learn's names of its own."""
    return [StrOptions({*LOSSES, *more}), Loss]


def hidden_sizes(estimator: Any) -> list[int]:
    """Return the widths of the hidden layers. Raises ValueError unless all are positive whole numbers."""
    sizes = estimator.hidden_layer_sizes
    sizes = [*sizes] if hasattr(sizes, "__iter__") else [sizes]
    if not all(isinstance(size, Integral) for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be whole numbers, got {sizes}.")
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def each_hidden(name: str, value: Any, sizes: Sequence[int]) -> list[Any]:
    """Return one value per hidden layer. Raises ValueError if there are several values, but not one each."""
    if isinstance(value, (str, Activation)) or not hasattr(value, "__iter__"):
        return [value] * len(sizes)
    values = [*value]
    if len(values) != len(sizes):
        raise ValueError(
            f"{name} has {len(values)} values and hidden_layer_sizes {len(sizes)}; give one value for each "
            "hidden layer, or a single value for all"
        )
    return values


def activation_of(name: Any) -> Activation:
    """Return the activation with this name, scikit-learn's names included."""
    return get_activation("sigmoid" if name == LOGISTIC else name)


def layers_of(estimator: Any, n_out: int, code_levels: tuple[int, ...] = ()) -> list[Layer]:
    """Return the layers: for each width Dense, normalization and dropout; then n_out outputs.

    With `residual`, a hidden layer as wide as the one before adds its input to its output.

    code_levels: of the columns that are embedded.
    """
    sizes = hidden_sizes(estimator)
    activations = [*map(activation_of, each_hidden("activation", estimator.activation, sizes))]
    rates = each_hidden("dropout", estimator.dropout, sizes)
    normalization = estimator.normalization and NORMALIZATIONS[estimator.normalization]
    layers: list[Layer] = [Embedding(code_levels)] if code_levels else []
    before = None
    for width, phi, rate in zip(sizes, activations, rates, strict=True):
        block: list[Layer] = [Dense(width, phi)]
        block += [normalization()] if normalization else []
        block += [Dropout(float(rate))] if rate else []
        layers += [Residual(tuple(block))] if estimator.residual and width == before else block
        before = width
    return [*layers, Dense(n_out)]


def dtype_name(estimator: Any, of_rows: Any) -> str:
    """Return the type to compute in: that of the rows, unless `dtype` chooses one."""
    dtype = of_rows if estimator.dtype is None else estimator.dtype
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


def batch_size(estimator: Any, rows: int) -> int:
    """Return the number of rows of a minibatch."""
    return min(200 if estimator.batch_size == "auto" else int(estimator.batch_size), rows)


def size_of(estimator: Any, shape: tuple[int, int], n_out: int) -> tuple[int, float]:
    """Return the largest number of updates, and the multiplications of their forward passes."""
    rows, columns = shape
    widths = [columns, *hidden_sizes(estimator), n_out]
    products = sum(a * b for a, b in pairwise(widths))
    each = 1 if estimator.solver == "lbfgs" else -(-rows // batch_size(estimator, rows))
    return estimator.max_iter * each, float(estimator.max_iter) * rows * products


def described_by(estimator: Any, layers: Sequence[Layer]) -> str:
    """Return the network of these layers in words: what a later fit may not change."""
    device, dtype = estimator.device, estimator.dtype
    return f"{list(layers)} with device={device!r} and dtype={dtype!r}"
