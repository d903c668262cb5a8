"""The boxes hold: gradients are slopes, and update rules are those of the optimizers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffnn_gpu import Dense, Network
from ffnn_gpu.backends import Backend
from ffnn_gpu.nn.activations import get_activation
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.optim import SGD, Adagrad, Adam, AdamW, Lion, Muon, Nadam, Optimizer, RMSprop
from tests.mathematics.pages import LAYERS, LOSSES, NETWORK, OPTIMIZERS, PAGES, boxes, run

RNG = np.random.default_rng(0)


def total(x: Any) -> Any:
    """Σ over the rows of the batch"""
    return np.sum(x, axis=0)


def row_total(x: Any) -> Any:
    """Σ over each row."""
    return np.sum(x, axis=1, keepdims=True)


def numbers(**shapes: tuple[int, ...]) -> dict[str, Any]:
    """Return an array of normal numbers for each name."""
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def mean_along(axis: int) -> Any:
    """Return the mean over the elements that share statistics."""
    return lambda x: np.mean(x, axis=axis, keepdims=True)


mish = get_activation("mish")
FUNCTIONS = {
    "e": np.e, "π": np.pi, "sqrt": np.sqrt, "log": np.log, "cos": np.cos, "sin": np.sin, "sign": np.sign,
    "max": np.maximum, "min": np.minimum, "norm": np.linalg.norm, "Σ": total, "rowsum": row_total,
    "mean": np.mean, "φ": lambda s: mish.value(np, s), "φ_prime": lambda s: mish.derivative(np, s),
}  # fmt: skip
DISTRIBUTION = np.array([[0.2, 0.5, 0.3, 0], [0, 0, 1, 0], [0.1, 0.1, 0.1, 0.7]])
NORMALIZED = numbers(x=(5, 4), gain=(4,), bias=(4,), da=(5, 4)) | {"ε": 0.1}
OF_ROWS = {"Σ": row_total} | numbers(z=(3, 4), da=(3, 4)) | {"q": DISTRIBUTION}
BINS = {
    "l": np.array([-1.0, -0.2, 0.5]), "i": np.array([1.25, 1 / 0.7, 2.0]), "low": np.array([-np.inf, 0, 0]),
    "high": np.array([1, 1, np.inf]),
}  # fmt: skip
# (page, place of the box) → what its formulas read
GIVEN: dict[tuple[Path, int], dict[str, Any]] = {
    (LOSSES, 1): OF_ROWS,
    (LOSSES, 2): OF_ROWS,
    (LOSSES, 3): OF_ROWS | {"p": RNG.uniform(0.1, 1, (3, 4))},
    (LOSSES, 4): OF_ROWS,
    (LOSSES, 5): OF_ROWS | {"v": RNG.uniform(1, 2, 4), "ε": 0.1, "C": 4},
    (LAYERS, 0): NORMALIZED | {"mean": mean_along(0)},
    (LAYERS, 2): numbers(x=(5, 4), m=(5, 4), da=(5, 4)),
    (LAYERS, 3): numbers(x=(5, 3), W=(3, 3), b=(3,), da=(5, 3)),
    (LAYERS, 4): numbers(x=(5, 3), A=(3, 2), B=(3, 2), da=(5, 2)) | {"w_1": 0.3, "w_2": 0.7},
    (LAYERS, 5): numbers(x=(5, 3), W=(3, 4), b=(4,), da=(5, 4)) | {"I": 3},
    (LAYERS, 6): numbers(x=(5, 3), gain=(3,), da=(5, 3)),
    (LAYERS, 7): numbers(x=(5, 3), α=(3,), da=(5, 3)),
    (LAYERS, 8): numbers(x=(5, 1), w=(1, 6), b=(6,), A=(6, 2), c=(2,), da=(5, 2)),
    (LAYERS, 9): numbers(x=(5, 1), w=(1, 6), b=(6,), gain=(6,), bias=(6,), da=(5, 6)),
    (LAYERS, 10): numbers(x=(5, 1), w=(1, 2), c=(2,), V=(3, 2), da=(5, 2)) | BINS,
}


def require_gradients(box: str, names: dict[str, Any], *wanted: str) -> None:
    """Raise AssertionError unless each dq of a box is the slope of L, or of Σ da ⊙ a, along q."""
    done = run(box, FUNCTIONS | names)
    checked = []
    for name in done:
        q = name[1:]
        if name[0] != "d" or q not in names or name in names:
            continue
        x, slope = names[q], np.zeros(names[q].shape)
        for place in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[place] = 1e-5
            above, below = (run(box, FUNCTIONS | names | {q: x + sign * step}) for sign in (1, -1))
            slope[place] = (objective(above, names) - objective(below, names)) / 2e-5
        np.testing.assert_allclose(done[name], slope, rtol=1e-6, atol=1e-8, err_msg=f"{name} of\n{box}")
        checked.append(name)
    assert sorted(checked) == sorted(wanted or checked) and checked


def objective(values: dict[str, Any], names: dict[str, Any]) -> Any:
    """Return L, or Σ da ⊙ a of a layer."""
    return np.sum(values["L"]) if "L" in values else np.sum(names["da"] * values["a"])


def test_backpropagation_of_the_page_gives_the_slopes_of_the_loss() -> None:
    names = numbers(x=(6, 3), W_1=(3, 4), b_1=(4,), W_2=(4, 2), b_2=(2,), y=(6, 2)) | {"n": 12}
    require_gradients("".join(boxes(NETWORK)), names, "dW_1", "dW_2", "db_1", "db_2", "dx")


@pytest.mark.parametrize(("page", "place"), GIVEN, ids=lambda part: getattr(part, "stem", part))
def test_gradients_of_a_box_are_the_slopes_of_its_values(page: Path, place: int) -> None:
    require_gradients(boxes(page)[place], GIVEN[page, place])


def test_normalization_of_rows_has_the_same_gradients() -> None:
    # gain and bias of one number, because the box sums over the axis of the statistics
    names = NORMALIZED | numbers(gain=(5, 1), bias=(5, 1)) | {"mean": mean_along(1), "Σ": row_total}
    require_gradients(boxes(LAYERS)[0], names)


def test_jacobian_of_the_page_is_that_of_softmax() -> None:
    z, backend = RNG.normal(size=(1, 5)), Backend(np)
    S = backend.softmax(z, out=np.empty_like(z))[0]
    J, box = np.zeros((5, 5)), boxes(LOSSES)[0]
    for i, k in np.ndindex(5, 5):
        J[i, k] = run(box, {"S_i": S[i], "S_k": S[k], "δ_ik": i == k})["J_ik"]
    np.testing.assert_allclose(J, backend.softmax_jacobian(z)[0], rtol=1e-14)
    for k, step in enumerate(1e-6 * np.eye(5)):
        above, below = (backend.softmax(z + sign * step, out=np.empty_like(z))[0] for sign in (1, -1))
        np.testing.assert_allclose(J[:, k], (above - below) / 2e-6, rtol=1e-6, atol=1e-9)


ADAM = {"β_1": 0.9, "β_2": 0.99, "ε": 1e-3, "m": 0.0, "v": 0.0}
# place of the box → the optimizer that it describes, and the values before the first step
RULES: dict[int, tuple[Optimizer, dict[str, Any]]] = {
    0: (SGD(0.1, momentum=0.8), {"v": 0.0, "μ": 0.8}),
    1: (SGD(0.1, momentum=0.8, nesterov=True), {"v": 0.0, "μ": 0.8}),
    2: (RMSprop(0.1, rho=0.7, eps=1e-3), {"v": 0.0, "ρ": 0.7, "ε": 1e-3}),
    3: (Adagrad(0.1, eps=1e-3), {"v": 0.0, "ε": 1e-3}),
    4: (Adam(0.1, beta2=0.99, eps=1e-3), ADAM),
    5: (Nadam(0.1, beta2=0.99, eps=1e-3, psi=0.5), ADAM | {"ψ": 0.5, "Π": 1.0}),
    6: (Lion(0.1, 0.9, 0.2), {"β_1": 0.9, "β_2": 0.2, "m": 0.0}),
}


def matrix_alone(W: np.ndarray) -> Parameters:
    """Return the parameters of a network that has one matrix."""
    I, O = W.shape
    params = Network(I, [Dense(O, bias=False)], device=Backend(np), dtype="float64").params
    params.views[0].W[...] = W
    return params


def steps_of(optimizer: Optimizer, W: np.ndarray, gradients: list[np.ndarray]) -> list[np.ndarray]:
    """Return W after each step of the optimizer."""
    params, found = matrix_alone(W), []
    for g in gradients:
        params.views[0].dW[...] = g
        optimizer.step(params)
        found.append(params.views[0].W.copy())
    return found


@pytest.mark.parametrize("place", RULES, ids=lambda place: type(RULES[place][0]).__name__)
def test_update_rule_of_the_page_is_that_of_the_optimizer(place: int) -> None:
    (optimizer, names), theta = RULES[place], RNG.normal(size=(3, 4))
    gradients = [RNG.normal(size=(3, 4)) for _ in range(3)]
    names = FUNCTIONS | names | {"θ": theta, "η": 0.1}
    for t, (g, want) in enumerate(zip(gradients, steps_of(optimizer, theta, gradients), strict=True), 1):
        names = run(boxes(OPTIMIZERS)[place], names | {"g": g, "t": t})
        np.testing.assert_allclose(names["θ"], want, rtol=1e-12)


def test_muon_of_the_page_is_that_of_the_optimizer() -> None:
    momentum, iteration, update = boxes(OPTIMIZERS)[7:10]
    W, gradients = RNG.normal(size=(3, 5)), [RNG.normal(size=(3, 5)) for _ in range(3)]
    found = steps_of(Muon(0.1, momentum=0.9, weight_decay=0, output_layer=True), W, gradients)
    names = FUNCTIONS | {"W": W, "M": 0.0, "μ": 0.9, "η": 0.1, "I": 3, "O": 5}
    names |= {"a": 3.4445, "b": -4.775, "c": 2.0315}
    for G, want in zip(gradients, found, strict=True):
        names = run(momentum, names | {"G": G})
        for _ in range(5):
            names = run(iteration, names)
        names = run(update, names)
        np.testing.assert_allclose(names["W"], want, rtol=1e-9)


def test_penalties_clipping_and_average_of_the_page_are_those_of_the_optimizer() -> None:
    penalties, clipping, averaging = boxes(OPTIMIZERS)[10:]
    W, G = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    names = FUNCTIONS | {
        "W": W,
        "nabla_W": G,
        "nabla_θ": G,
        "limit": 0.3,
        "η": 0.1,
        "λ_1": 0.3,
        "λ_2": 0.2,
        "λ": 0.5,
    }
    done = run(penalties + clipping, names)
    (found,) = steps_of(SGD(0.1, l1=0.3, l2=0.2, weight_decay=0.5), W, [G])
    np.testing.assert_allclose(found, done["W"] - 0.1 * done["g"], rtol=1e-12)
    for setting, g in (("clip_norm", done["by_norm"]), ("clip_value", done["by_value"])):
        (found,) = steps_of(SGD(0.1, **{setting: 0.3}), W, [G])
        np.testing.assert_allclose(found, W - 0.1 * g, rtol=1e-12)
    optimizer, params = AdamW(0.1, ema=0.9), matrix_alone(W)
    mean = W
    for _ in range(3):
        params.views[0].dW[...] = G
        optimizer.step(params)
        mean = run(averaging, {"mean": mean, "β": 0.9, "θ": params.views[0].W.copy()})["mean"]
    optimizer.swap_average(params)
    np.testing.assert_allclose(params.views[0].W, mean, rtol=1e-12)


def test_running_statistics_of_the_page_are_those_of_the_code() -> None:
    names = {"μ": 2.0, "v": 3.0, "B": 5, "momentum": 0.1, "mean": 1.0, "variance": 1.5}
    done = run(boxes(LAYERS)[1], names)
    running = np.array([1.0]), np.array([1.5])
    Backend(np).running_statistics(np.array([2.0]), np.array([3.0]), 5, 0.1, *running)
    np.testing.assert_allclose([done["mean"], done["variance"]], np.ravel(running), rtol=1e-14)


def test_every_box_is_tested() -> None:
    tested = {(LOSSES, 0), (LAYERS, 1), *GIVEN, *((OPTIMIZERS, place) for place in range(len(RULES) + 6))}
    tested |= {(NETWORK, 0), (NETWORK, 1)}
    assert {(page, place) for page in PAGES for place in range(len(boxes(page)))} == tested
