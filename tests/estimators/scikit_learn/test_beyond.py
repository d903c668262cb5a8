"""What the estimators have beyond scikit-learn's: layers, losses, rules, class weights, validation rows."""

import warnings
from dataclasses import asdict

import numpy as np
import pytest
from ffnn_gpu.callbacks import Callback, EarlyStopping
from ffnn_gpu.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning

from ffnn_gpu import activations, losses, optim, schedules
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.estimators import MLPClassifier, MLPRegressor
from ffnn_gpu.estimators.scikit_learn.solvers import optimizer_of
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.schedules import SCHEDULES
from ffnn_gpu.optim.choice import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, CLASSES = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
NUMBERS = X[:, 0] * X[:, 1] + X[:, 2]
FAST = {"hidden_layer_sizes": (16, 16), "learning_rate_init": 0.02, "random_state": 0, "max_iter": 60}


def layers(**parameters):
    return MLPClassifier(max_iter=1, **parameters).fit(X, CLASSES).to_model().network.layers


def test_layers_are_dense_normalization_and_dropout_of_each_width():
    relu, gelu = activations.relu, activations.gelu
    found = layers(hidden_layer_sizes=(8, 5), normalization="batch", dropout=0.2, activation="gelu")
    block = BatchNorm(), Dropout(0.2)
    assert found == (Dense(8, gelu), *block, Dense(5, gelu), *block, Dense(3))
    found = layers(
        hidden_layer_sizes=(8, 5), activation=["relu", gelu], dropout=[0.0, 0.5], normalization="layer"
    )
    assert found == (Dense(8, relu), LayerNorm(), Dense(5, gelu), LayerNorm(), Dropout(0.5), Dense(3))
    found = layers(hidden_layer_sizes=(8, 8, 5), residual=True)
    assert found == (Dense(8, relu), Residual((Dense(8, relu),)), Dense(5, relu), Dense(3))


@pytest.mark.parametrize(("name", "value"), [("activation", ["relu"]), ("dropout", [0.1, 0.1, 0.1])])
def test_values_per_layer_must_be_one_for_each(name, value):
    with pytest.raises(
        ValueError, match=rf"{name} has {len(value)} values and hidden_layer_sizes 2; give one"
    ):
        layers(hidden_layer_sizes=(8, 5), **{name: value})


def test_width_that_is_no_whole_number_is_not_rounded():
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be whole numbers, got \[8, 3\.5\]"):
        layers(hidden_layer_sizes=(8, 3.5))


@pytest.mark.parametrize("name", [*ACTIVATIONS, "logistic", activations.leaky_relu.with_alpha(0.3)])
def test_every_activation_learns(name):
    assert MLPClassifier(activation=name, **FAST).fit(X, CLASSES).score(X, CLASSES) > 0.9


@pytest.mark.parametrize("name", [*OPTIMIZERS, optim.AdamW(0.02, clip_norm=1.0, ema=0.9)])
def test_every_optimizer_learns(name):
    rate = 0.1 if name in ("sgd", "muon") else 0.02
    model = MLPClassifier(solver=name, **{**FAST, "learning_rate_init": rate}).fit(X, CLASSES)
    assert model.score(X, CLASSES) > 0.9


def test_decays_of_another_optimizer_are_its_own_unless_they_are_given():
    assert asdict(optimizer_of(MLPClassifier(solver="lion"))) == asdict(optim.Lion(1e-3))
    given = MLPClassifier(solver="nadam", beta_1=0.5, epsilon=1e-4, learning_rate_init=0.3)
    assert asdict(optimizer_of(given)) == asdict(optim.Nadam(0.3, beta1=0.5, eps=1e-4))


@pytest.mark.parametrize("name", [*SCHEDULES, schedules.Cosine(warmup=3)])
def test_every_schedule_learns(name):
    model = MLPClassifier(learning_rate=name, tol=0, **{**FAST, "learning_rate_init": 0.05}).fit(X, CLASSES)
    assert model.score(X, CLASSES) > 0.85


def test_schedule_sets_the_rate_of_each_step():
    class Rates(Callback):
        seen: list[float] = []  # noqa: RUF012

        def after_step(self, run):
            self.seen.append(run.lr)

    schedule = schedules.StepDecay(every=2, gamma=0.5)
    MLPClassifier(learning_rate=schedule, callbacks=Rates(), max_iter=3, batch_size=75).fit(X, CLASSES)
    assert Rates.seen == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


@pytest.mark.parametrize(
    "loss", ["huber", "mean_absolute_error", "mean_squared_error", losses.huber.with_alpha(2.0)]
)
def test_regressor_trains_losses_of_numbers(loss):
    assert MLPRegressor(loss=loss, **FAST).fit(X, NUMBERS).score(X, NUMBERS) > 0.8


def test_classifier_trains_losses_of_classes():
    smooth = MLPClassifier(loss=losses.SoftmaxCrossEntropy(0.2), **FAST).fit(X, CLASSES)
    plain = MLPClassifier(**FAST).fit(X, CLASSES)
    found = [np.median(model.predict_proba(X).max(axis=1)) for model in (smooth, plain)]
    assert found[0] < 0.9 < 0.98 < found[1]
    hinge = MLPClassifier(loss="hinge", **FAST).fit(X, CLASSES == 2)
    assert hinge.score(X, CLASSES == 2) > 0.9 and set(hinge.predict(X)) == {False, True}
    with pytest.raises(ConfigurationError, match=r"the loss 'hinge' trains a decision, no probabilities"):
        hinge.predict_proba(X)


@pytest.mark.parametrize(
    ("kind", "loss", "y"),
    [(MLPClassifier, "hinge", CLASSES), (MLPClassifier, "huber", CLASSES), (MLPRegressor, "hinge", NUMBERS)],
)
def test_loss_that_does_not_fit_the_targets_is_refused(kind, loss, y):
    with pytest.raises(ConfigurationError, match=f"the loss '{loss}'"):
        kind(loss=loss).fit(X, y)


def test_poisson_refuses_negative_targets():
    with pytest.raises(ValueError, match="poisson loss needs counts of at least 0"):
        MLPRegressor(loss="poisson").fit(X, NUMBERS)


def test_class_weights_are_sample_weights():
    x, y = make_classification(200, 6, weights=[0.9], flip_y=0.1, random_state=0)
    weight = np.where(y == 1, 5.0, 0.5)
    by_class = MLPClassifier(class_weight={0: 0.5, 1: 5.0}, **FAST).fit(x, y)
    by_row = MLPClassifier(**FAST).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(by_class.loss_curve_, by_row.loss_curve_, 1e-12)
    balanced = MLPClassifier(class_weight="balanced", **FAST).fit(x, y)
    counts = np.bincount(y)
    by_row = MLPClassifier(**FAST).fit(x, y, sample_weight=len(y) / (2 * counts[y]))
    np.testing.assert_allclose(balanced.loss_curve_, by_row.loss_curve_, 1e-12)


def test_validation_rows_are_measured_after_each_epoch():
    model = MLPClassifier(**FAST).fit(X[::2], CLASSES[::2], X_val=X[1::2], y_val=CLASSES[1::2])
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
    p = model.predict_proba(X[1::2])[np.arange(75), CLASSES[1::2]]
    assert model.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean(), rel=1e-6)
    assert model.validation_scores_[-1] == model.score(X[1::2], CLASSES[1::2])
    plain = MLPClassifier(**FAST).fit(X[::2], CLASSES[::2])
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
    assert plain.validation_loss_curve_ is None


def test_validation_loss_of_several_numbers_is_the_mean_over_them():
    y = np.column_stack([NUMBERS, X[:, 0], X[:, 1]])
    model = MLPRegressor(**FAST).fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    error = np.mean((model.predict(X[1::2]) - y[1::2]) ** 2) / 2
    assert model.validation_loss_curve_[-1] == pytest.approx(error, rel=1e-6)


def test_random_state_decides_the_masks_of_dropout():
    seeds = [
        MLPClassifier(dropout=0.5, max_iter=1, random_state=state).fit(X, CLASSES).to_model().network.seed
        for state in (0, 0, 1)
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_early_stopping_with_validation_rows_trains_on_all_others():
    model = MLPClassifier(early_stopping=True, tol=0, n_iter_no_change=3, **FAST)
    model.fit(X[::2], CLASSES[::2], X_val=X[1::2], y_val=CLASSES[1::2])
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.score(X[1::2], CLASSES[1::2]) == model.best_validation_score_
    assert model.t_ == model.n_iter_ * 75


def test_early_stopping_refuses_one_validation_row_of_a_regression():
    """Its R² is NaN, which no epoch improves on, so the initial weights would be the best."""
    model = MLPRegressor(early_stopping=True, **FAST)
    with pytest.raises(ValueError, match=r"early_stopping compares R², which needs 2 rows at least; X_val"):
        model.fit(X, NUMBERS, X_val=X[:1], y_val=NUMBERS[:1])
    assert model.fit(X, NUMBERS, X_val=X[:2], y_val=NUMBERS[:2]).best_validation_score_ > -10


@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, CLASSES), (MLPRegressor, NUMBERS)])
def test_held_out_rows_whose_weights_are_all_0_are_an_error(kind, y):
    weight = np.where(np.arange(150) == np.random.default_rng(0).integers(150), 1.0, 0.0)
    with pytest.raises(ValueError, match="the weights of all 15 rows held out for early_stopping are 0"):
        kind(early_stopping=True, **FAST).fit(X, y, weight)


@pytest.mark.parametrize("given", [{"y_val": CLASSES}, {"sample_weight_val": np.ones(150)}])
def test_validation_targets_without_rows_are_an_error(given):
    with pytest.raises(ValueError, match="y_val and sample_weight_val belong to X_val, which is not given"):
        MLPClassifier(**FAST).fit(X, CLASSES, **given)


def test_partial_fit_says_that_y_has_another_number_of_targets():
    model = MLPRegressor(**FAST).partial_fit(X, NUMBERS)
    with pytest.raises(ShapeError, match="y has 2 targets in each row, and the network of the first"):
        model.partial_fit(X, np.c_[NUMBERS, NUMBERS])


def test_callbacks_may_end_the_run_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = MLPClassifier(callbacks=EarlyStopping(1, min_delta=100.0), max_iter=50).fit(X, CLASSES)
    assert model.n_iter_ == 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", np.float32, float])
def test_dtype_of_the_computation_can_be_chosen(dtype):
    model = MLPClassifier(dtype=dtype, **FAST).fit(X, CLASSES)
    network = model.to_model().network
    assert network.compute_dtype.name == {np.float32: "float32", float: "float64"}.get(dtype, dtype)
    assert model.score(X, CLASSES) > 0.9 and model.coefs_[0].dtype == network.dtype


def test_penalty_of_weighted_rows_does_not_depend_on_the_loss_scale_of_float16():
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X))
    half, single = (
        MLPClassifier(dtype=dtype, alpha=30.0, **FAST).fit(X, CLASSES, weight)
        for dtype in ("float16", "float32")
    )
    norms = [sum(np.abs(W).sum() for W in model.coefs_) for model in (half, single)]
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


@pytest.mark.parametrize("parameters", [{"dropout": 0.1}, {"callbacks": [EarlyStopping()]}])
def test_lbfgs_refuses_what_needs_epochs(parameters):
    with pytest.raises(ConfigurationError, match="solver='lbfgs'"):
        MLPClassifier(solver="lbfgs", **parameters).fit(X, CLASSES)


def test_batch_normalization_refuses_a_last_batch_of_one_row():
    with pytest.raises(ConfigurationError, match="leave a batch of 1 row"):
        MLPClassifier(normalization="batch", batch_size=149).fit(X, CLASSES)


def test_callback_may_monitor_the_validation_score():
    stopping = EarlyStopping(2, monitor="val_score", min_delta=1.0)
    model = MLPClassifier(callbacks=[stopping], **FAST).fit(X, CLASSES, X_val=X, y_val=CLASSES)
    assert model.n_iter_ == 3 and stopping.best == model.validation_scores_[0]


@pytest.mark.parametrize("warm_start", [True, False])
def test_validation_rows_may_lack_a_class_but_hold_no_other(warm_start):
    model = MLPClassifier(warm_start=warm_start, max_iter=2)
    for _ in range(2):
        model.fit(X, CLASSES, X_val=X[:100], y_val=CLASSES[:100])
    assert len(model.validation_scores_) == (4 if warm_start else 2)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.fit(X, CLASSES, X_val=X[:2], y_val=[0, 7])


def test_batch_whose_weights_are_all_0_changes_nothing():
    weight = np.repeat([1.0, 0.0], 75)
    settings = {"shuffle": False, "solver": "sgd", "momentum": 0.0, "alpha": 1.0}
    both = MLPRegressor(batch_size=75, **settings, **FAST).fit(X, NUMBERS, weight)
    first = MLPRegressor(batch_size=75, **settings, **FAST).fit(X[:75], NUMBERS[:75])
    assert both.n_iter_ == first.n_iter_
    np.testing.assert_allclose(both.coefs_[0], first.coefs_[0], 1e-12)


@pytest.mark.parametrize(
    "change", [{"hidden_layer_sizes": (9,)}, {"dropout": 0.3}, {"dtype": "float32"}, {"device": "cuda"}]
)
def test_network_of_a_warm_start_is_not_changed_silently(change):
    model = MLPClassifier(hidden_layer_sizes=(8,), max_iter=2, warm_start=True).fit(X, CLASSES)
    with pytest.raises(ConfigurationError, match="warm_start and partial_fit train the network of the first"):
        model.set_params(**change).fit(X, CLASSES)


def test_partial_fit_refuses_what_needs_to_know_the_future():
    with pytest.raises(ConfigurationError, match="partial_fit does not know how many steps follow"):
        MLPRegressor(learning_rate="cosine").partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all rows at once"):
        MLPClassifier(class_weight="balanced").partial_fit(X, CLASSES, classes=[0, 1, 2])


def test_bar_shows_the_epochs_on_standard_error(capsys):
    MLPClassifier(verbose="bar", max_iter=3).fit(X, CLASSES)
    said = capsys.readouterr()
    assert said.out == "" and "epoch 3/3" in said.err and "loss" in said.err
