"""Losses and their gradients equal PyTorch's and stay finite for extreme inputs."""

import math
import pickle

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.arrays.precision import eps, floating
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.losses import Loss
from ffnn_gpu.nn.losses import standard as losses
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss, SoftmaxCrossEntropy, get_loss, huber
from ffnn_gpu.testing import assert_close, tolerance

POINTWISE = [name for name in LOSSES if "cross_entropy" not in name or name.startswith("binary")]
OF_PROBABILITIES = ("binary_cross_entropy", "cross_entropy")


def made(case):
    """Return the loss of this package that a golden case describes."""
    name, options = case["loss"].split()[0], case["options"]
    if name == "huber":
        return huber.with_alpha(options["delta"])
    if name != "softmax_cross_entropy":
        return LOSSES[name]
    weight = options.get("class_weight")
    return SoftmaxCrossEntropy(options.get("smoothing", 0.0), None if weight is None else tuple(weight))


def evaluate(backend, rule, z, y, weight=None, dtype="float64"):
    """Return (value, dz) on the host."""
    z = backend.asarray(np.array(z, dtype))
    dz = backend.xp.full_like(z, np.nan)
    value = rule(backend, z, np.array(y), dz=dz, sample_weight=None if weight is None else np.array(weight))
    assert value.shape == () and value.dtype == dtype and dz.dtype == dtype
    return float(value), backend.to_host(dz)


def example(name, B=5, O=3, seed=0):
    """Return outputs z and targets y that suit the loss."""
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(2, B, O))
    z = rng.dirichlet([1.0] * O, B) if name in OF_PROBABILITIES else z
    y = {
        "poisson": lambda: rng.integers(0, 4, (B, O)),
        "binary_cross_entropy": lambda: rng.integers(0, 2, (B, O)),
        "binary_cross_entropy_with_logits": lambda: rng.uniform(size=(B, O)),
        "hinge": lambda: rng.choice([-1.0, 1.0], (B, O)),
        "cross_entropy": lambda: rng.integers(0, O, B),
        "softmax_cross_entropy": lambda: rng.integers(0, O, B),
    }.get(name, lambda: y)()
    return z, y


# ---------------------------------------------------------------------- values and gradients


def test_value_and_gradient_equal_autograd(backend, golden):
    for case in golden("losses")["cases"]:
        what = f"{case['loss']} {case['options']} {'weighted' if case['weight'] else ''}"
        value, dz = evaluate(backend, made(case), case["z"], case["y"], case["weight"])
        relative = tolerance("network", "float64", K=len(case["z"]) * 3)
        assert abs(value - case["value"]) <= relative * max(1, abs(case["value"])), what
        want = np.array(case["dz"])
        # A clamped probability: PyTorch stores its floor of 10⁻¹² in float32, an error of 4e-9.
        if np.abs(want).max() > 1e6:
            relative = 1e-8
        assert_close(
            dz, want, relative, f"dz of {what}", scale=np.maximum(np.abs(want), min(1, np.abs(want).max()))
        )


def test_golden_cases_cover_every_loss(golden):
    assert {case["loss"].split()[0] for case in golden("losses")["cases"]} == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_equals_float64_at_the_rounded_outputs(backend, name):
    z, y = example(name)
    z = z.astype(np.float32)
    value, dz = evaluate(backend, LOSSES[name], z, y, dtype="float32")
    exact, exact_dz = evaluate(backend, LOSSES[name], z, np.array(y, np.float32), dtype="float64")
    relative = tolerance("network", "float32", K=z.size)
    assert abs(value - exact) <= relative * abs(exact)
    assert_close(dz, exact_dz, relative, f"dz of {name}")


# The formulas, written independently for one row.
FORMULAS = {
    "mean_squared_error": lambda z, y: (y - z) ** 2,
    "mean_absolute_error": lambda z, y: abs(y - z),
    "huber": lambda z, y: 0.5 * (z - y) ** 2 if abs(z - y) <= 1 else abs(z - y) - 0.5,
    "poisson": lambda z, y: math.exp(z) - y * z,
    "binary_cross_entropy": lambda p, y: -(y * math.log(p) + (1 - y) * math.log(1 - p)),
    "binary_cross_entropy_with_logits": lambda z, y: (
        y * math.log1p(math.exp(-z)) + (1 - y) * math.log1p(math.exp(z))
    ),
    "hinge": lambda z, y: max(0.0, 1 - y * z),
}


@pytest.mark.parametrize("weight", [None, [0.5, 0, 2, 1, 3]])
@pytest.mark.parametrize("name", FORMULAS)
def test_pointwise_value_is_the_weighted_mean_of_its_formula(backend, name, weight):
    z, y = example(name)
    w = [1] * 5 if weight is None else weight
    pairs = [zip(*row, strict=True) for row in zip(z.tolist(), y.tolist(), strict=True)]
    rows = [sum(FORMULAS[name](*pair) for pair in row) / 3 for row in pairs]
    want = sum(a * b for a, b in zip(w, rows, strict=True)) / sum(w)
    value, _ = evaluate(backend, LOSSES[name], z, y, weight)
    assert value == pytest.approx(want, rel=tolerance("network", "float64", K=15))


def test_cross_entropy_of_indices_equals_cross_entropy_of_one_hot_rows(backend, dtype):
    for name in ("cross_entropy", "softmax_cross_entropy"):
        z, y = example(name)
        hard, soft = (evaluate(backend, LOSSES[name], z, target, dtype=dtype) for target in (y, np.eye(3)[y]))
        assert hard[0] == pytest.approx(soft[0], rel=tolerance("network", dtype))
        assert_close(hard[1], soft[1], tolerance("network", dtype), "dz")


def test_loss_of_a_perfect_prediction_is_zero(backend, dtype):
    _, y = example("mean_squared_error")
    for name in ("mean_squared_error", "mean_absolute_error", "huber"):
        value, dz = evaluate(backend, LOSSES[name], np.array(y, dtype), np.array(y, dtype), dtype=dtype)
        assert value == 0 and not dz.any()


@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "softmax_cross_entropy"])
@pytest.mark.parametrize("size", [1e4, 1e20])
def test_loss_of_huge_logits_is_exact_without_warnings(backend, dtype, name, size):
    z = np.array([[size, -size], [-size, size]], dtype)
    right, wrong = (
        (np.eye(2), 1 - np.eye(2)) if name.startswith("binary") else (np.array([0, 1]), np.array([1, 0]))
    )
    step = 1.0 if name.startswith("soft") else 0.5
    of_wrong = 2 * size if name.startswith("soft") else size
    with np.errstate(all="raise"):
        value, dz = evaluate(backend, LOSSES[name], z, right, dtype=dtype)
        assert value == 0 and not dz.any()
        value, dz = evaluate(backend, LOSSES[name], z, wrong, dtype=dtype)
    assert value == pytest.approx(of_wrong, rel=tolerance("product", dtype))
    assert_close(dz, step / 2 * np.sign(z), tolerance("product", dtype), "dz")


@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_wrong_probabilities_of_zero_and_one_have_finite_losses_and_gradients(backend, dtype, name):
    p = np.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    wrong = 1 - p if name.startswith("binary") else np.array([0, 1])
    with np.errstate(all="raise"):
        value, dz = evaluate(backend, LOSSES[name], p, wrong, dtype=dtype)
    assert math.isfinite(value) and value > 20 and np.isfinite(dz).all()
    assert dz[0, 0] < 0 and dz[1, 1] < 0  # descent raises a probability of 0 that should be 1


def test_right_probabilities_of_zero_and_one_have_zero_loss(backend, dtype):
    p = np.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    for rule, y in ((ffnn_gpu.binary_cross_entropy, p), (ffnn_gpu.cross_entropy, np.array([1, 0]))):
        value, _ = evaluate(backend, rule, p, y, dtype=dtype)
        assert value == 0


def test_bce_value_is_clamped_at_a_log_of_minus_100(backend, dtype):
    value, _ = evaluate(backend, ffnn_gpu.binary_cross_entropy, [[0.0]], [[1.0]], dtype=dtype)
    assert value == 100


def test_probabilities_below_the_floor_are_replaced_by_the_floor(backend, dtype):
    """Any p below 10⁻¹² is replaced by 10⁻¹², so value and gradient do not depend on p."""
    of_zero, of_little = (
        evaluate(backend, LOSSES["cross_entropy"], [[p, 1 - p]], np.array([0]), dtype=dtype)
        for p in (0.0, 3e-13)
    )
    assert of_zero[0] == of_little[0] == pytest.approx(12 * math.log(10), rel=1e-6)
    np.testing.assert_array_equal(of_zero[1], of_little[1])


@pytest.mark.parametrize("name", LOSSES)
def test_all_zero_weights_give_zero_loss_and_zero_gradient(backend, dtype, name):
    z, y = example(name)
    with np.errstate(all="raise"):
        value, dz = evaluate(backend, LOSSES[name], z, y, np.zeros(5), dtype)
    assert value == 0 and not dz.any()


def test_loss_of_no_rows_is_zero(backend, dtype):
    for name, rule in LOSSES.items():
        z, y = example(name, B=2)
        value, dz = evaluate(backend, rule, z[:0], y[:0], dtype=dtype)
        assert value == 0 and dz.shape == (0, 3), name


def test_gradient_at_kinks_of_the_loss(backend, dtype):
    _, dz = evaluate(backend, ffnn_gpu.mean_absolute_error, [[1.0]], [[1.0]], dtype=dtype)
    assert dz.tolist() == [[0]]
    _, dz = evaluate(backend, ffnn_gpu.hinge, [[1.0]], [[1.0]], dtype=dtype)
    assert dz.tolist() == [[0]]
    _, dz = evaluate(backend, huber.with_alpha(2.0), [[2.0], [-5.0]], [[0.0], [0.0]], dtype=dtype)
    assert dz.tolist() == [[1], [-1]]


# ---------------------------------------------------------------------- the interface of a loss


@pytest.mark.parametrize("name", LOSSES)
def test_loss_does_not_change_z_and_targets(backend, dtype, name):
    z, y = example(name)
    z = backend.asarray(z.astype(dtype))
    kept_z, kept_y = np.array(backend.to_host(z)), y.copy()
    LOSSES[name](backend, z, y, dz=backend.xp.empty_like(z), sample_weight=np.ones(5))
    np.testing.assert_array_equal(backend.to_host(z), kept_z)
    np.testing.assert_array_equal(y, kept_y)


@pytest.mark.parametrize("weight", [None, np.arange(5.0)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_may_be_written_over_the_outputs(backend, dtype, name, weight):
    z, y = example(name)
    want, want_dz = evaluate(backend, LOSSES[name], z, y, weight, dtype)
    z = backend.asarray(z.astype(dtype))
    value = LOSSES[name](backend, z, np.array(y), dz=z, sample_weight=weight)
    relative = tolerance("product", dtype, K=15)
    assert float(value) == pytest.approx(want, rel=relative, abs=relative)
    assert_close(backend.to_host(z), want_dz, relative, "dz")


@pytest.mark.parametrize("name", LOSSES)
def test_loss_without_a_gradient_has_the_same_value(backend, dtype, name):
    z, y = example(name)
    z = backend.asarray(z.astype(dtype))
    with_dz = LOSSES[name](backend, z, y, dz=backend.xp.empty_like(z))
    without = LOSSES[name](backend, z, y)
    assert without.dtype == dtype and float(without) == float(with_dz)


@pytest.mark.parametrize("name", LOSSES)
def test_float64_targets_and_weights_do_not_promote_float32(backend, name):
    z, y = example(name)
    evaluate(backend, LOSSES[name], z, y, np.ones(5, np.float64), dtype="float32")  # asserts the dtypes


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_give_the_same_loss_as_no_weights(backend, dtype, name):
    z, y = example(name)
    plain, weighted = (
        evaluate(backend, LOSSES[name], z, y, weight, dtype) for weight in (None, np.full(5, 3))
    )
    assert weighted[0] == pytest.approx(plain[0], rel=tolerance("network", dtype))
    assert_close(weighted[1], plain[1], tolerance("network", dtype), "dz")


@pytest.mark.parametrize("name", POINTWISE)
def test_vector_of_targets_is_treated_as_one_column(backend, name):
    z, y = example(name, O=1)
    (value, dz), (same, same_dz) = (evaluate(backend, LOSSES[name], z, target) for target in (y[:, 0], y))
    assert value == same
    np.testing.assert_array_equal(dz, same_dz)
    z, y = example(name, O=3)
    with pytest.raises(ShapeError, match=r"y has shape \(5,\); the network has 3 outputs"):
        evaluate(backend, LOSSES[name], z, y[:, 0])


def test_total_weight_is_the_divisor_of_the_mean(backend):
    y, w = backend.asarray(np.array([0, 1, 1])), backend.asarray(np.array([1.0, 2, 4]))
    classes = SoftmaxCrossEntropy(class_weight=(0.5, 3))
    assert ffnn_gpu.softmax_cross_entropy.total_weight(backend, y, None) == 3
    assert float(ffnn_gpu.mean_squared_error.total_weight(backend, y, w)) == 7
    assert (
        float(classes.total_weight(backend, y, None)) == 6.5
        and float(classes.total_weight(backend, y, w)) == 18.5
    )


def test_total_weight_of_target_distributions_ignores_class_weights(backend):
    y, w = backend.asarray(np.eye(2)), backend.asarray(np.array([1.0, 2]))
    classes = SoftmaxCrossEntropy(class_weight=(0.5, 3))
    assert classes.total_weight(backend, y, None) == 2 and float(classes.total_weight(backend, y, w)) == 3


def test_targets_on_the_device_are_reshaped_and_converted(backend):
    column, classes, rows = (
        backend.asarray(np.array(y)) for y in ([0.0, 1, 1], [0, 1, 1], [[1.0, 0], [0, 1], [0, 1]])
    )
    for name, y, O, want, kind in (
        ("mean_squared_error", column, 1, [[0], [1], [1]], "float32"),
        ("hinge", rows, 2, rows.tolist(), "float32"),
        ("cross_entropy", classes, 2, rows.tolist(), "float32"),
        ("cross_entropy", rows, 2, rows.tolist(), "float32"),
        ("softmax_cross_entropy", classes, 2, [0, 1, 1], "int32"),
        ("softmax_cross_entropy", rows, 2, rows.tolist(), "float32"),
    ):
        got = LOSSES[name].device_targets(backend, y, O, np.float32)
        assert got.tolist() == want and got.dtype == kind, name


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(3, 2), (3, 4), (2, 3, 1), (1, 3, 3)])
def test_targets_on_the_device_with_another_shape_are_refused(backend, name, shape):
    with pytest.raises(ShapeError, match=r"the network has 3 outputs, so y must be \(rows, 3\)"):
        LOSSES[name].device_targets(backend, backend.zeros(shape, np.float64), 3, np.float32)


def test_decide_turns_outputs_into_the_form_of_the_targets():
    for rule in (ffnn_gpu.softmax_cross_entropy, ffnn_gpu.cross_entropy):
        assert rule.decide(np.array([[0.2, 0.7], [0.9, 0.6], [0.1, 0.3]])).tolist() == [1, 0, 1]
    z = np.array([[0.2, 0.7], [0.9, 0.6]])
    assert ffnn_gpu.binary_cross_entropy.decide(z).tolist() == [[0, 1], [1, 1]]
    assert ffnn_gpu.binary_cross_entropy_with_logits.decide(z - 0.5).tolist() == [[0, 1], [1, 1]]
    np.testing.assert_array_equal(ffnn_gpu.mean_squared_error.decide(z), z)


def test_hinge_decides_in_the_form_of_its_targets():
    assert ffnn_gpu.hinge.decide(np.array([[0.3], [-0.3]])).tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("name", "threshold", "below"),
    [("hinge", 0, -1), ("binary_cross_entropy", 0.5, 0), ("binary_cross_entropy_with_logits", 0, 0)],
)
def test_output_at_the_threshold_is_decided_as_below_it(name, threshold, below):
    assert LOSSES[name].decide(np.array([[threshold]])).tolist() == [[below]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_an_output_that_is_nan_is_nan(backend, name, dtype):
    z, y = example(name)
    z[1, 2] = np.nan
    assert np.isnan(evaluate(backend, LOSSES[name], z, y, dtype=dtype)[0])


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_16_bit_outputs_is_float32_and_its_gradient_is_rounded_once(backend, name, narrow):
    z, y = example(name)
    z, found = z.astype(floating(narrow)), []
    for given in (z, z.astype(np.float32)):
        given = backend.asarray(given)
        dz = backend.xp.zeros_like(given)
        value = LOSSES[name](backend, given, y, dz=dz)
        assert value.dtype == np.float32 and dz.dtype == given.dtype
        found.append((float(value), backend.to_host(dz)))
    (value, dz), (want, want_dz) = found
    assert value == pytest.approx(want, rel=tolerance("network", "float32"))
    assert_close(dz, want_dz, eps(floating(narrow)), "dz", scale=np.abs(want_dz) + 2.0**-14)


# ---------------------------------------------------------------------- bad input

BAD = [  # loss, y for z (3, 2), exception, message
    (
        "softmax_cross_entropy",
        [0, 1, 2],
        DataError,
        r"y\[2\] is 2; the network has 2 outputs, so classes are 0 to 1",
    ),
    ("softmax_cross_entropy", [0, -1, 1], DataError, r"y\[1\] is -1"),
    ("softmax_cross_entropy", [0, 0.5, 1], DataError, r"y\[1\] is 0.5; class indices must be whole numbers"),
    ("softmax_cross_entropy", [0, np.nan, 1], DataError, "1 values that are not finite"),
    ("softmax_cross_entropy", [True, False, True], DataError, "dtype bool"),
    ("softmax_cross_entropy", ["a", "b", "a"], DataError, "strings such as 'a'"),
    ("softmax_cross_entropy", [0j, 1, 1], DataError, "dtype complex128"),
    ("softmax_cross_entropy", [None, 1, 1], DataError, "dtype object"),
    ("softmax_cross_entropy", [0, 1], ShapeError, "z has 3 rows and y has 2"),
    (
        "softmax_cross_entropy",
        [[1, 0, 0]] * 3,
        ShapeError,
        r"y has shape \(3, 3\); the network has 2 outputs",
    ),
    ("softmax_cross_entropy", [[1, 0], [0.5, 0.4], [0, 1]], DataError, "row 1 of y sums to 0.9"),
    ("softmax_cross_entropy", [[1, 0], [1.5, -0.5], [0, 1]], DataError, "row 1 of y holds a negative"),
    ("cross_entropy", [0, 1, 2], DataError, r"y\[2\] is 2"),
    ("cross_entropy", [[1, 0], [1, 1], [0, 1]], DataError, "row 1 of y sums to 2"),
    (
        "mean_squared_error",
        [[1.0, np.nan], [0, 0], [0, np.inf]],
        DataError,
        r"2 values .* first is nan at index \(0, 1\)",
    ),
    ("mean_squared_error", [1.0, 2, 3], ShapeError, r"y has shape \(3,\); the network has 2 outputs"),
    ("mean_squared_error", [[1.0, 2]], ShapeError, "z has 3 rows and y has 1"),
    ("mean_squared_error", [["a", "b"]] * 3, DataError, "strings such as 'a'"),
    ("poisson", [[0, 1], [-1, 2], [0, 0]], DataError, "y holds -1"),
    ("binary_cross_entropy", [[0, 1], [2, 0], [0, 0]], DataError, "y ranges from 0.0 to 2.0"),
    ("binary_cross_entropy_with_logits", [[0, -0.5], [1, 0], [0, 0]], DataError, "y ranges from -0.5"),
    ("hinge", [[0, 1], [1, 1], [1, 1]], DataError, "y holds 0"),
]


@pytest.mark.parametrize(("name", "y", "kind", "message"), BAD)
def test_bad_targets_are_refused(backend, name, y, kind, message):
    with pytest.raises(kind, match=message):
        LOSSES[name](backend, backend.asarray(np.full((3, 2), 0.5)), np.array(y))


def test_integral_floats_are_class_indices(backend):
    z, y = example("softmax_cross_entropy")
    assert (
        evaluate(backend, LOSSES["softmax_cross_entropy"], z, y.astype(float))[0]
        == evaluate(backend, LOSSES["softmax_cross_entropy"], z, y.astype(np.uint8))[0]
    )


WEIGHTS = [
    ([1.0, 2], ShapeError, r"sample_weight has shape \(2,\); there are 3 rows"),
    ([[1.0], [1], [1]], ShapeError, r"sample_weight has shape \(3, 1\)"),
    ([1, -1, 1], DataError, r"sample_weight\[1\] is -1; weights are at least 0"),
    ([1, np.nan, 1], DataError, "sample_weight holds 1 values that are not finite"),
]


@pytest.mark.parametrize(("weight", "kind", "message"), WEIGHTS)
def test_bad_sample_weights_are_refused(backend, weight, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(backend, ffnn_gpu.mean_squared_error, np.zeros((3, 2)), np.zeros((3, 2)), weight)


def test_z_must_be_a_matrix(backend):
    with pytest.raises(ShapeError, match=r"z has shape \(3,\); it must be a matrix"):
        ffnn_gpu.mean_squared_error(backend, backend.zeros((3,), np.float64), np.zeros(3))


SETTINGS = [
    (lambda: huber.with_alpha(0), "alpha of huber must be positive"),
    (lambda: huber.with_alpha(float("inf")), "alpha of huber must be positive"),
    (lambda: SoftmaxCrossEntropy(label_smoothing=1), "label_smoothing must be at least 0 and below 1"),
    (lambda: SoftmaxCrossEntropy(label_smoothing=-0.1), "label_smoothing must be"),
    (lambda: SoftmaxCrossEntropy(class_weight=(1, -1)), "class weights must be finite and at least 0"),
    (lambda: SoftmaxCrossEntropy(class_weight=(1, float("nan"))), "class weights must be finite"),
    (
        lambda: SoftmaxCrossEntropy(class_weight=(float("inf"), 1)),
        r"class weights must be finite .* not \(inf, 1.0\)",
    ),
    # Read as a sequence, a mapping would give its classes as their weights.
    (lambda: SoftmaxCrossEntropy(class_weight={0: 0.5, 1: 3}), r"one number per class, not \{0: 0.5, 1: 3\}"),
    (lambda: SoftmaxCrossEntropy(class_weight="balanced"), r"'balanced'; fit\(…, class_weight=…\) takes"),
    (lambda: get_loss("hinge", 0.5), "hinge has no constant alpha to set"),
    (
        lambda: get_loss("mse2"),
        "no loss is called 'mse2'; did you mean 'mse'\\? There are mean_squared_error",
    ),
]


@pytest.mark.parametrize(("make", "message"), SETTINGS)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


MISSPELT = [
    "crossentropy", "cross-entropy", "cross entropy", "Cross-Entropy", "CROSS__ENTROPY", "crossentopy",
    "cross_entrpy", "croos_entropy", "entropy", "cross", "softmax", "softmax-cross-entropy",
    "softmax_crossentropy", "softmax_cross_entropy_with_logits", "Categorical_CrossEntropy",
    "sparse_categorical_crossentopy", "binary_crossentropy", "binary-cross-entropy", "Binary Cross Entropy",
    "binary_crossentopy", "binray_cross_entropy", "binary", "logits_binary_crossentropy",
    "binary_cross_entropy_with_logit", "binary-cross-entropy-with-logits", "bce", "BCEWithLogitsLoss",
]  # fmt: skip


@pytest.mark.parametrize("name", MISSPELT)
def test_misspelt_cross_entropy_is_explained_and_none_is_suggested(name):
    logits = "on logits use 'softmax_cross_entropy' .* or 'binary_cross_entropy_with_logits' .*"
    probabilities = "on probabilities use 'cross_entropy' .* or 'binary_cross_entropy' .*"
    with pytest.raises(ConfigurationError, match=f"no loss is called {name!r}; {logits}; {probabilities}"):
        get_loss(name)


@pytest.mark.parametrize("name", LOSSES)
def test_case_and_outer_spaces_of_a_name_are_ignored(name):
    assert get_loss(f" {name.title()} ") is LOSSES[name]


def test_class_weight_may_be_zero(backend):
    value, dz = evaluate(backend, SoftmaxCrossEntropy(class_weight=(0, 1)), [[0.0, 0], [0, 0]], [0, 1])
    assert value == pytest.approx(math.log(2)) and dz[0].tolist() == [0, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_whose_class_has_weight_zero_count_nothing(backend, dtype, smoothing):
    rng = np.random.default_rng(4)
    z, y, w = rng.normal(size=(40, 3)), rng.integers(0, 3, 40), rng.uniform(0.5, 2, 40)
    loss, counted = SoftmaxCrossEntropy(smoothing, (0, 1, 3)), y > 0
    value, dz = evaluate(backend, loss, z, y, w, dtype)
    want, want_dz = evaluate(backend, loss, z[counted], y[counted], w[counted], dtype)
    assert value == pytest.approx(want, rel=tolerance("network", dtype, K=120))
    assert_close(dz[counted], want_dz, tolerance("network", dtype, K=120), "dz")
    assert not dz[~counted].any()
    value, dz = evaluate(backend, loss, z, 0 * y, w, dtype)
    assert value == 0 and not dz.any()


def test_class_weight_must_have_one_number_per_output(backend):
    with pytest.raises(ShapeError, match="class_weight has 3 numbers; the network has 2 outputs"):
        SoftmaxCrossEntropy(class_weight=(1, 2, 3))(
            backend, backend.zeros((3, 2), np.float64), np.array([0, 1, 1])
        )


def test_losses_compare_by_value_and_are_found_by_name():
    assert all(get_loss(name) is LOSSES[name] for name in LOSSES)
    assert (
        huber == LOSSES["huber"] != huber.with_alpha(2.0)
        and SoftmaxCrossEntropy() == losses.softmax_cross_entropy
    )
    assert isinstance(losses.hinge, PointwiseLoss) and "mean_squared_error" in repr(losses.mean_squared_error)
    assert get_loss("huber", 1.0) is huber and get_loss("huber", 0.5) == huber.with_alpha(0.5)
    assert get_loss("softmax_cross_entropy", 0.5) is losses.softmax_cross_entropy


def test_repr_of_a_custom_loss_has_its_name_and_no_address():
    class Mine(losses.Loss):
        pass

    assert repr(Mine()).endswith("Mine()") and Mine() == Mine()


def test_custom_losses_are_equal_if_name_and_settings_are_equal():
    make = lambda name="mine", **more: PointwiseLoss(name, lambda *_: 0, lambda *_: 0, lambda y: None, **more)  # noqa: E731
    assert make() == make() != make("yours") and hash(make()) == hash(make())
    assert make() != make(alpha=1.0) and make() != make(threshold=0.0) and make() != make(decisions=(-1, 1))


def test_repr_of_a_loss_is_the_same_in_every_process():
    """A resumed training run compares the repr with the saved one, so it must not contain an address."""
    assert not [loss for loss in LOSSES.values() if " at 0x" in repr(loss)]
    mine = PointwiseLoss("mine", lambda xp, z, y, _: z, lambda xp, z, y, _: z, lambda y: None)
    assert repr(mine) == "PointwiseLoss(name='mine', alpha=0.0, threshold=None, decisions=(0, 1))"


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_same_after_pickling(backend, name):
    rule = huber.with_alpha(0.3) if name == "huber" else LOSSES[name]
    back = pickle.loads(pickle.dumps(rule))  # noqa: S301
    assert back == rule
    got, want = (evaluate(backend, each, *example(name)) for each in (back, rule))
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])


def test_weights_too_large_for_the_dtype_are_refused(backend):
    z = backend.asarray(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="too large for float32"):
        losses.mean_squared_error(backend, z, np.zeros((2, 3)), sample_weight=np.array([1.0, 1e300]))


def test_integer_outputs_and_a_dz_of_another_shape_are_refused(backend):
    z = backend.asarray(np.ones((1, 3)))
    with pytest.raises(DataError, match="z has dtype int"):
        losses.mean_squared_error(
            backend, backend.asarray(np.ones((2, 1), np.int64)), np.array([[2.5], [1.0]])
        )
    with pytest.raises(ShapeError, match=r"dz has shape \(5, 3\); z has \(1, 3\)"):
        losses.mean_squared_error(backend, z, np.ones((1, 3)), dz=backend.empty((5, 3), "float64"))


def test_underflow_of_a_pointwise_loss_raises_no_warning(backend, dtype):
    tiny = np.full((3, 2), np.finfo(dtype).tiny, dtype)
    z, y = backend.asarray(tiny), backend.asarray(tiny / 2)
    with np.errstate(all="raise"):
        backend.pointwise_loss(
            LOSSES["mean_squared_error"], z, y, None, backend.zeros((3, 2), np.dtype(dtype))
        )


@pytest.mark.parametrize("name", LOSSES)
def test_underflow_of_a_row_of_tiny_weight_raises_no_warning(backend, dtype, name):
    z, y = example(name)
    # A third of its share of the mean is not a normal number.
    weight = np.array([4.4 * np.finfo(dtype).tiny, 1, 1, 1, 1], dtype)
    with np.errstate(all="raise"):
        value, dz = evaluate(backend, LOSSES[name], z, y, weight, dtype)
    rest, rest_dz = evaluate(backend, LOSSES[name], z[1:], y[1:], weight[1:], dtype)
    assert value == pytest.approx(rest, rel=tolerance("network", dtype)) and np.isfinite(dz).all()
    assert_close(dz[1:], rest_dz, tolerance("network", dtype), "dz")


def test_underflow_of_a_normalized_weight_raises_no_warning(backend, dtype):
    weight = np.array([4.4 * np.finfo(dtype).tiny, 1, 1023], dtype)
    with np.errstate(all="raise"):
        share = backend.to_host(backend.normalized_weight(backend.asarray(weight)))
    assert share.dtype == dtype and share[1:].tolist() == [1 / 1024, 1023 / 1024]


def test_loss_that_defines_the_old_method_evaluate_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"Mine defines evaluate, .* rename the method"):
        type("Mine", (Loss,), {"evaluate": lambda self, backend, z, y, dz, sample_weight: 0})


def test_checked_arguments_are_not_validated_again(backend):
    z, dz = backend.asarray([[1.0, 2.0]]), backend.zeros((1, 2), "float64")
    y, weight = backend.asarray(np.array([[0.5, 0.5]])), backend.asarray(np.array([-1.0]))
    with pytest.raises(DataError):  # of a host array: reading one of a GPU would wait for it
        losses.mean_squared_error(backend, z, y, dz, np.array([-1.0]))
    assert float(losses.mean_squared_error(backend, z, y, dz, weight, checked=True)) == pytest.approx(1.25)


@pytest.mark.parametrize("missing", ["targets", "value_and_gradient"])
def test_loss_without_a_method_is_named(missing, backend):
    class Partial(Loss):
        def targets(self, y, O, dtype):
            return super().targets(y, O, dtype) if missing == "targets" else np.asarray(y, dtype)

    z = backend.zeros((2, 1), "float64")
    with pytest.raises(NotImplementedError, match=f"Partial has no {missing}"):
        Partial()(backend, z, np.zeros((2, 1)), None)
