"""k steps, a stop and N − k resumed steps equal N steps bit for bit, for every setting of a training run."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.checkpoints import checkpoint, tensor_file
from ffnn_gpu.checkpoints.checkpoint import load, load_extras, save
from ffnn_gpu.errors import CheckpointError, ConfigurationError, IncompatibleCheckpointError
from ffnn_gpu.nn.activations import relu
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm
from ffnn_gpu.nn.losses.standard import SoftmaxCrossEntropy, softmax_cross_entropy
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Cosine, OneCycle, StepDecay
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.optim.optimizers import SGD, Adam, AdamW
from ffnn_gpu.training import data_fingerprint as fingerprint
from ffnn_gpu.training.callbacks import BestWeights, Callback, Checkpoints, EarlyStopping, ReduceOnPlateau
from ffnn_gpu.training.data_fingerprint import LATER
from ffnn_gpu.training.fit import fit
from ffnn_gpu.training.resume import GROUPS
from tests.checkpoints.old_folder import aged

rng = np.random.default_rng(3)
X = rng.normal(size=(50, 4))
LABELS = rng.integers(0, 3, 50)
WEIGHTS = rng.random(50)
STEPS = 4  # per epoch, the last of 2 rows


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Skip fsync: other tests cover atomicity."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Stop(Callback):
    """Sends Ctrl-C after update number `step`, counted over the whole training run."""

    def __init__(self, step):
        self.step = step

    def after_step(self, run):
        if run.steps_done == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class Rates(Callback):
    """Records the learning rate of every step."""

    def start(self, run):
        self.seen = []

    def after_step(self, run):
        self.seen.append(float(run.optimizer.state(run.network.params).scalars[1]))


class Counts(Callback):
    """Counts steps."""

    steps = 0

    def after_step(self, run):
        self.steps += 1


def network_of(*layers, dtype="float32", backend="numpy", seed=0):
    layers = layers or (Dense(8, relu), BatchNorm(), Dropout(0.3), LayerNorm(), Dense(3))
    return Network(4, layers, backend, dtype, seed)


SETTINGS = {
    "plain": lambda: {"optimizer": SGD(0.1)},
    "momentum, l2, clipping": lambda: {
        "optimizer": SGD(0.1, 0.9, True, l2=1e-3, l1=1e-4, clip_norm=0.5, clip_value=0.2)
    },
    "rmsprop with momentum": lambda: {"optimizer": OPTIMIZERS["rmsprop"](momentum=0.5)},
    "schedule": lambda: {"optimizer": Adam(0.01), "schedule": OneCycle()},
    "warm-up": lambda: {"optimizer": Adam(0.01), "schedule": Cosine(0.1, warmup=3, cycles=2)},
    "plateau": lambda: {
        "optimizer": SGD(0.1),
        "schedule": ReduceOnPlateau(0.5, 0, min_delta=9.0, cooldown=1),
    },
    "plateau as callback": lambda: {
        "optimizer": SGD(0.1),
        "callbacks": [ReduceOnPlateau(0.5, 0, min_delta=9.0)],
    },
    "early stopping": lambda: {
        "optimizer": AdamW(0.01),
        "early_stopping": 2,
        "validation": 0.2,
        "metrics": ["accuracy"],
    },
    "early stopping at once": lambda: {
        "optimizer": AdamW(0.01),
        "early_stopping": EarlyStopping(1, min_delta=9.0),
    },
    "ema": lambda: {"optimizer": Adam(0.01, ema=0.9), "validation": (X[:9], LABELS[:9])},
    "ema and best": lambda: {"optimizer": Adam(0.01, ema=0.9), "early_stopping": 1, "validation": 0.2},
    "accumulate": lambda: {"optimizer": Adam(0.01), "accumulate": 3},
    "weights": lambda: {"optimizer": Adam(0.01), "sample_weight": WEIGHTS, "class_weight": "balanced"},
    "weighted loss": lambda: {
        "optimizer": Adam(0.01),
        "loss": SoftmaxCrossEntropy(0.1, (1.0, 2.0, 0.5)),
        "accumulate": 2,
    },
    "no shuffling": lambda: {"optimizer": Adam(0.01), "shuffle": False, "drop_last": True},
    "best epoch is the first": lambda: {
        "optimizer": Adam(0.01),
        "schedule": StepDecay(0.1, 0.5),
        "callbacks": [BestWeights("lr", mode="max")],
    },
    "decay schedule": lambda: {"optimizer": AdamW(0.01, weight_decay=0.5, decay_schedule="coslog4")},
    "several callbacks": lambda: {
        "optimizer": Adam(0.01),
        "early_stopping": 3,
        "callbacks": [BestWeights("loss"), ReduceOnPlateau(0.5, 0, min_delta=9.0)],
    },
} | {name: (lambda kind=kind: {"optimizer": kind()}) for name, kind in OPTIMIZERS.items()}


def train(settings, path, *callbacks, resume=False, network=None, epochs=2, **changes):
    """Call fit with new objects; return (network, optimizer, history)."""
    arguments = SETTINGS[settings]() | changes
    network = network or network_of()
    loss, optimizer = arguments.pop("loss", softmax_cross_entropy), arguments.pop("optimizer")
    arguments["callbacks"] = [*callbacks, *arguments.pop("callbacks", [])]
    arguments = {"epochs": epochs, "batch_size": 16, "seed": 5, "verbose": 0, "checkpoint": path} | arguments
    return network, optimizer, fit(network, loss, optimizer, (X, LABELS), resume=resume, **arguments)


def everything(network, optimizer, history):
    """Return all vectors of a training run as bytes, and the rows of its history without times."""
    params, host = network.params, network.backend.to_host
    vectors = {
        "theta": params.theta,
        "state": params.state,
        "step": params.step,
        **vars(optimizer.state(params)),
    }
    rows = [
        {k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in history.rows
    ]
    return {name: np.array(host(vector)).tobytes() for name, vector in vectors.items()}, rows


def assert_same(a, b):
    (mine, rows), (theirs, others) = everything(*a), everything(*b)
    assert rows == others
    assert mine.keys() == theirs.keys() and not [name for name in mine if mine[name] != theirs[name]]


def look(network, optimizer):
    return everything(network, optimizer, type("Nothing", (), {"rows": []}))[0]


# ---------------------------------------------------------------------- bit for bit


@pytest.mark.parametrize("settings", SETTINGS)
def test_training_resumed_after_any_step_equals_the_uninterrupted_one(tmp_path, settings):
    whole = train(settings, tmp_path / "whole")
    total = int(whole[0].params.step[0])
    assert total >= 3
    for k in range(1, total + 1):
        path = tmp_path / str(k)
        first = train(settings, path, Stop(k))
        assert first[2].interrupted == signal.SIGINT
        assert_same(train(settings, path, resume=True), whole)


def test_training_resumed_after_every_step_equals_the_uninterrupted_one(tmp_path):
    whole = train("several callbacks", tmp_path / "whole", epochs=3)
    for k in range(1, 3 * STEPS + 1):
        last = train("several callbacks", tmp_path / "steps", Stop(k), epochs=3, resume=True)
    assert_same(last, whole)
    assert last[2].interrupted == signal.SIGINT


def test_resumed_training_equals_the_uninterrupted_one_on_every_backend_and_dtype(tmp_path, backend, dtype):
    whole = train("schedule", tmp_path / "whole", network=network_of(dtype=dtype, backend=backend))
    train("schedule", tmp_path / "parts", Stop(6), network=network_of(dtype=dtype, backend=backend))
    assert_same(
        train("schedule", tmp_path / "parts", resume=True, network=network_of(dtype=dtype, backend=backend)),
        whole,
    )


@pytest.mark.parametrize("k", [3, 4, 6])
def test_training_resumes_from_the_last_checkpoint_after_a_failure(tmp_path, k):
    class Fails(Callback):
        def after_step(self, run):
            if run.steps_done == k:
                raise ZeroDivisionError

    whole = train("ema and best", tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        train(
            "ema and best",
            tmp_path / "parts",
            Fails(),
            checkpoint=Checkpoints(tmp_path / "parts", every_steps=1),
        )
    assert_same(train("ema and best", tmp_path / "parts", resume=True), whole)


@pytest.mark.parametrize("settings", ["plain", "schedule", "several callbacks"])
def test_training_resumes_after_a_failure_between_the_last_step_and_the_end_of_an_epoch(tmp_path, settings):
    class Fails(Callback):
        def after_epoch(self, run, row):
            if run.epoch == 1:
                raise ZeroDivisionError

    whole, parts = train(settings, tmp_path / "whole"), Checkpoints(tmp_path / "parts", every_steps=STEPS)
    with pytest.raises(ZeroDivisionError):
        train(settings, None, Fails(), checkpoint=parts)
    assert_same(train(settings, tmp_path / "parts", resume=True), whole)


SCRIPT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("resume_tests", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
callbacks = [tests.Stop(int(sys.argv[4]))] if sys.argv[4] != "0" else []
done = tests.train(sys.argv[2], sys.argv[3], *callbacks, resume=True)
vectors, rows = tests.everything(*done)
import json
print(json.dumps([{name: value.hex() for name, value in vectors.items()}, rows]))
"""


def test_training_resumed_in_a_new_process_equals_the_uninterrupted_one(tmp_path):
    def in_a_process(path, stop):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, __file__, "ema and best", path, str(stop)],
            capture_output=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)

    vectors, rows = everything(*train("ema and best", tmp_path / "whole"))
    in_a_process(tmp_path / "parts", 6)
    assert in_a_process(tmp_path / "parts", 0) == [
        {name: value.hex() for name, value in vectors.items()},
        rows,
    ]


# ---------------------------------------------------------------------- more epochs, nothing to do


def test_finished_training_can_be_resumed_with_more_epochs(tmp_path):
    whole = train("plain", tmp_path / "whole", epochs=5)
    train("plain", tmp_path / "parts", epochs=2)
    assert_same(train("plain", tmp_path / "parts", epochs=5, resume=True), whole)


@pytest.mark.parametrize("settings", ["plain", "ema", "ema and best", "early stopping at once", "schedule"])
def test_resuming_a_finished_training_runs_no_step_and_has_the_same_result(tmp_path, settings):
    whole, counts = train(settings, tmp_path / "run", epochs=5), Counts()
    assert (len(whole[2]) < 5) == (settings == "early stopping at once")
    for _ in range(2):
        assert_same(train(settings, tmp_path / "run", counts, epochs=5, resume=True), whole)
    assert counts.steps == 0


def test_training_that_stopped_early_is_resumed_from_its_end_at_any_checkpoint_interval(tmp_path):
    counts, rarely = Counts(), Checkpoints(tmp_path, every_epochs=5)
    whole = train("early stopping at once", tmp_path, epochs=9, checkpoint=rarely)
    assert_same(train("early stopping at once", tmp_path, counts, epochs=9, resume=True), whole)
    assert len(whole[2]) == 2 and counts.steps == 0


def test_resume_without_a_checkpoint_file_starts_from_the_beginning(tmp_path):
    assert_same(train("plain", tmp_path / "a", resume=True), train("plain", tmp_path / "b"))


def test_resume_without_the_checkpoint_argument_is_refused():
    with pytest.raises(ConfigurationError, match="resume=True needs checkpoint"):
        train("plain", None, resume=True)


def test_learning_rates_of_a_resumed_training_continue_the_schedule(tmp_path):
    whole, first, second = Rates(), Rates(), Rates()
    train("warm-up", tmp_path / "whole", whole)
    train("warm-up", tmp_path / "parts", first, Stop(3))
    train("warm-up", tmp_path / "parts", second, resume=True)
    assert first.seen + second.seen == whole.seen


# ---------------------------------------------------------------------- the files last and best


def test_best_holds_the_network_of_the_best_epoch(tmp_path):
    network, _, history = train("early stopping", tmp_path / "run", epochs=4, early_stopping=4)
    best = load(tmp_path / "run" / "best", "numpy")
    for name, value in best.params.to_host().items():
        np.testing.assert_array_equal(value, network.params.to_host()[name])
    row = load_extras(tmp_path / "run" / "best")["row"]
    assert row["val_loss"] == min(history["val_loss"])
    assert not checkpoint.read(tmp_path / "run" / "best", "numpy")[2]


def test_best_is_not_replaced_by_a_worse_epoch_after_a_resume(tmp_path):
    train("plain", tmp_path / "run", epochs=2)
    best = load_extras(tmp_path / "run" / "best")["row"]
    monitor = Checkpoints(tmp_path / "run", monitor="loss")
    train("plain", None, checkpoint=monitor, resume=True, epochs=2)
    assert monitor.best == best["loss"]


def test_extras_are_in_both_files_and_last_is_written_at_the_chosen_intervals(tmp_path):
    class Last(Callback):
        def start(self, run):
            self.seen = []

        def after_step(self, run):
            path = tmp_path / "run" / "last.safetensors"
            self.seen.append(int(load(path, "numpy").params.step[0]) if path.exists() else 0)

    last = Last()
    checkpoints = Checkpoints(tmp_path / "run", every_epochs=2, every_steps=3, extras={"a": 1})
    train("plain", None, last, epochs=3, checkpoint=checkpoints)
    assert last.seen == [0, 0, 0, 3, 3, 3, 6, 6, 8, 9, 9, 9]
    assert load_extras(tmp_path / "run" / "last") == {"a": 1}
    assert load_extras(tmp_path / "run" / "best")["a"] == 1
    assert int(load(tmp_path / "run" / "last", "numpy").params.step[0]) == 12


def test_training_of_an_earlier_version_resumes_and_the_newer_format_takes_precedence(tmp_path):
    whole = train("early stopping", tmp_path / "whole", epochs=3, early_stopping=9)
    train("early stopping", tmp_path / "run", Stop(5), epochs=3, early_stopping=9)
    for name in ("last", "best"):
        aged(tmp_path / "run" / f"{name}.safetensors")
    before = {file: file.read_bytes() for file in (tmp_path / "run").glob("*/*")}
    assert len(before) == 5
    train("early stopping", tmp_path / "run", Stop(9), resume=True, epochs=3, early_stopping=9)
    assert int(load(tmp_path / "run" / "last", "numpy").params.step[0]) == 9
    assert_same(train("early stopping", tmp_path / "run", resume=True, epochs=3, early_stopping=9), whole)
    assert {file: file.read_bytes() for file in (tmp_path / "run").glob("*/*")} == before


# ---------------------------------------------------------------------- refusals


CHANGES = {
    "batch_size": ({"batch_size": 8}, "batch_size 16; this run has 8"),
    "seed": ({"seed": 6}, "seed 5; this run has 6"),
    "accumulate": ({"accumulate": 2}, "accumulate 1; this run has 2"),
    "shuffle": ({"shuffle": False}, "shuffle True; this run has False"),
    "drop_last": ({"drop_last": True}, "drop_last False; this run has True"),
    "optimizer": ({"optimizer": SGD(0.1)}, r"optimizer Adam\(.*; this run has SGD\("),
    "rate": ({"optimizer": Adam(0.02)}, r"optimizer Adam\(lr=0.01.*; this run has Adam\(lr=0.02"),
    "loss": ({"loss": SoftmaxCrossEntropy(0.1)}, r"loss SoftmaxCrossEntropy\(label_smoothing=0.0"),
    "schedule": ({"schedule": Cosine()}, r"schedule OneCycle\(.*; this run has Cosine\("),
    "rows": ({"validation": 0.2}, "rows 50; this run has 40"),
    "callbacks": ({"early_stopping": 3}, "callbacks .*; this run has .*EarlyStopping"),
    "width": (
        {"network": network_of(Dense(9), Dense(3))},
        r"network \(Dense\(8, relu\), .*; this run has \(Dense\(9\)",
    ),
    "dtype": ({"network": network_of(dtype="float64")}, "dtype float32; this run has float64"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_resume_with_other_settings_is_refused_with_the_difference_and_changes_nothing(tmp_path, what):
    changes, message = CHANGES[what]
    train("schedule", tmp_path / "run", Stop(3))
    network = changes.get("network") or network_of()
    optimizer = changes.get("optimizer") or Adam(0.01)
    before = look(network, optimizer)
    stored = (tmp_path / "run" / "last.safetensors").read_bytes()
    with pytest.raises(IncompatibleCheckpointError, match=message):
        train(
            "schedule",
            tmp_path / "run",
            **{"optimizer": optimizer, "network": network, "resume": True} | changes,
        )
    assert look(network, optimizer) == before
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == stored


def test_resume_with_another_input_width_is_refused_and_changes_nothing(tmp_path):
    train("plain", tmp_path / "run", Stop(3))
    network, optimizer = Network(3, network_of().layers, "numpy"), SGD(0.1)
    before = look(network, optimizer)
    with pytest.raises(IncompatibleCheckpointError, match="n_in 4; this run has 3"):
        fit(
            network,
            softmax_cross_entropy,
            optimizer,
            (X[:, :3], LABELS),
            epochs=2,
            batch_size=16,
            seed=5,
            verbose=0,
            checkpoint=tmp_path / "run",
            resume=True,
        )
    assert look(network, optimizer) == before


def test_network_without_a_training_state_cannot_be_resumed(tmp_path):
    save(network_of(), tmp_path / "run" / "last")
    with pytest.raises(IncompatibleCheckpointError, match="a network without a training run"):
        train("plain", tmp_path / "run", resume=True)


def test_numpy_numbers_as_widths_do_not_prevent_a_resume(tmp_path):
    layers = [Dense(np.int64(8)), Dropout(np.float64(0.5)), Dense(3)]
    train("plain", tmp_path / "run", Stop(3), network=network_of(*layers))
    whole = train("plain", tmp_path / "whole", network=network_of(*layers))
    assert_same(train("plain", tmp_path / "run", resume=True, network=network_of(*layers)), whole)


def damage(path, change):
    arrays, values = tensor_file.read(checkpoint.find(path))
    change(values["state"]["training"], arrays)
    tensor_file.write(checkpoint.find(path), arrays, values)


def optimizer_vectors(arrays):
    return [name for name in arrays if name.startswith("optimizer.")]


VALUES = [
    ("plan", 3),
    ("history", None),
    ("history", [1]),
    ("history", {}),
    ("callbacks", None),
    ("callbacks", [3]),
    ("callbacks", []),
    ("epoch", "1"),
    ("epoch", -1),
    ("epoch", 0.5),
    ("position", None),
    ("position", STEPS + 1),
    ("stop", 1),
    ("lr", [0.1]),
    ("lr_factor", None),
    ("loss_sum", "x"),
    ("weight_sum", True),
]
WRONG = {
    "no optimizer": lambda training, arrays: [arrays.pop(name) for name in optimizer_vectors(arrays)],
    "optimizer of another type": lambda training, arrays: arrays.update(
        {name: arrays[name].astype("float64") for name in optimizer_vectors(arrays)}
    ),
    "no best": lambda training, arrays: training["callbacks"][0].pop("best"),
    "best of another type": lambda training, arrays: training["callbacks"][0].update(best="x"),
    "waited of another type": lambda training, arrays: training["callbacks"][0].update(waited=None),
    **{
        f"{name} {value!r}": lambda t, arrays, name=name, value=value: t.update({name: value})
        for name, value in VALUES
    },
    **{f"no {name}": lambda t, arrays, name=name: t.pop(name) for name in dict(VALUES)},
}


@pytest.mark.parametrize("what", WRONG)
def test_invalid_training_state_is_refused_and_changes_nothing(tmp_path, what):
    train("early stopping", tmp_path / "run", Stop(6))
    damage(tmp_path / "run" / "last", WRONG[what])
    network, optimizer = network_of(), AdamW(0.01)
    before = look(network, optimizer)
    with pytest.raises(IncompatibleCheckpointError):
        train("early stopping", tmp_path / "run", resume=True, network=network, optimizer=optimizer)
    assert look(network, optimizer) == before


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_callback_that_cannot_be_restored_changes_nothing(tmp_path, error, dtype):
    class Fails(Callback):
        broken = False

        def start(self, run):
            self.run = run

        def state(self):
            return {"n": 1}

        def restore(self, state, arrays):
            if self.broken:
                raise error

    last, settings = Fails(), {"early_stopping": 3, "optimizer": AdamW(0.01, ema=0.9)}
    best, plateau = BestWeights("loss"), ReduceOnPlateau()
    train("plain", tmp_path, best, plateau, last, network=network_of(dtype=dtype), **settings)
    broken, network, optimizer = Fails(), network_of(dtype=dtype), settings["optimizer"]
    broken.broken, before = True, look(network, optimizer)
    best, plateau = BestWeights("loss"), ReduceOnPlateau()
    with pytest.raises(type(error)):
        train("plain", tmp_path, best, plateau, broken, resume=True, epochs=4, network=network, **settings)
    run = broken.run
    assert look(network, optimizer) == before and not best.kept and np.isnan(plateau.best)
    found = run.epoch, run.position, run.lr_factor, run.stop, run.loss_sum, run.history.rows
    assert found == (0, 0, 1, False, 0, [])


def test_damaged_checkpoint_is_not_resumed_and_not_overwritten(tmp_path):
    train("plain", tmp_path / "run", Stop(3))
    file = tmp_path / "run" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="damaged"):
        train("plain", tmp_path / "run", resume=True)
    assert file.read_bytes() == before


MEAN, SCALE = np.arange(4.0), np.arange(1.0, 5)
DATA = {
    "targets": ((X, (LABELS + 1) % 3), None, "targets and weights"),
    "inputs": ((100 * X + 5, LABELS), None, "inputs"),
    "one number": ((X + np.eye(50, 4, -30), LABELS), None, "inputs"),
    "mean": ((Standardized(rows_of(X), MEAN + 1, SCALE), LABELS), None, "inputs"),
    "scale": ((Standardized(rows_of(X), MEAN, SCALE + 1), LABELS), None, "inputs"),
    "validation inputs": (None, (X[:9] + 1, LABELS[:9]), "validation inputs"),
    "validation targets": (None, (X[:9], LABELS[1:10]), "validation targets and weights"),
    "validation weights": (None, (X[:9], LABELS[:9], WEIGHTS[:9]), "validation targets and weights"),
    "no validation": (None, False, "validation inputs"),
}


def train_on(path, data, validation, epochs=2, **settings):
    network, optimizer = network_of(), Adam(0.01)
    before = look(network, optimizer)
    try:
        fit(
            network,
            softmax_cross_entropy,
            optimizer,
            data,
            epochs=epochs,
            batch_size=16,
            validation=validation or None,
            checkpoint=path,
            verbose=0,
            **settings,
        )
    except IncompatibleCheckpointError:
        assert look(network, optimizer) == before
        raise


@pytest.mark.parametrize("what", DATA)
def test_resume_with_other_data_is_refused_with_the_difference_and_changes_nothing(tmp_path, what):
    (x, y), held_out = (
        (Standardized(rows_of(X), MEAN, SCALE) if what in ("mean", "scale") else X, LABELS),
        (X[:9], LABELS[:9]),
    )
    data, validation, message = DATA[what]
    train_on(tmp_path, (x, y), held_out)
    stored = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(IncompatibleCheckpointError, match=f"was written with other {message};"):
        train_on(
            tmp_path, data or (x, y), held_out if validation is None else validation, epochs=4, resume=True
        )
    assert (tmp_path / "last.safetensors").read_bytes() == stored
    train_on(tmp_path, (x, y), held_out, epochs=4, resume=True)


def test_checkpoint_without_checksums_of_the_inputs_can_be_resumed(tmp_path):
    train_on(tmp_path, (X, LABELS), (X[:9], LABELS[:9]))
    damage(tmp_path / "last", lambda training, arrays: [training["plan"].pop(name) for name in LATER])
    train_on(tmp_path, (X, LABELS), (X[:9], LABELS[:9]), epochs=4, resume=True)
    assert {*LATER} <= checkpoint.read(tmp_path / "last", "numpy")[1]["training"]["plan"].keys()


def test_checkpoint_with_other_groups_of_parameters_cannot_be_resumed(tmp_path):
    train("plain", tmp_path / "run", Stop(3))
    assert GROUPS not in checkpoint.read(tmp_path / "run/last", "numpy")[1]["training"]["plan"]
    damage(tmp_path / "run/last", lambda training, arrays: training["plan"].update({GROUPS: "[(0, 1)]"}))
    with pytest.raises(IncompatibleCheckpointError, match=r"groups of θ .* \[\(0, 1\)\]; this run has None"):
        train("plain", tmp_path / "run", resume=True)
    train("plain", tmp_path / "other", Stop(3), network=factored())
    damage(tmp_path / "other/last", lambda training, arrays: training["plan"].pop(GROUPS))
    with pytest.raises(IncompatibleCheckpointError, match=r"groups of θ .* None; this run has \[\(0, "):
        train("plain", tmp_path / "other", resume=True, network=factored())


def factored():
    first = Dense(8, relu, bias_lr_factor=0.1), Dropout(0.3, "flat_cos")
    return network_of(*first, Dense(3, lr_factor=0.5, decay_factor=2.0))


def test_training_with_factors_and_schedules_resumed_equals_the_uninterrupted_one(tmp_path):
    runs = tmp_path / "run", tmp_path / "whole"
    train("plateau", runs[0], Stop(3), network=factored(), optimizer=AdamW(0.01))
    resumed = train("plateau", runs[0], resume=True, network=factored(), optimizer=AdamW(0.01))
    assert_same(resumed, train("plateau", runs[1], network=factored(), optimizer=AdamW(0.01)))


def test_training_without_a_checkpoint_computes_no_checksums(monkeypatch):
    monkeypatch.setattr(fingerprint, "_checksum", None)
    train_on(None, (X, LABELS), (X[:9], LABELS[:9]))
