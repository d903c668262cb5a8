"""scripts/benchmark.py --kinds: everything the package offers has a row, and contenders do the same work."""

import importlib.util
import json
import re
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from benchmarks import compare, kinds, launcher, page, report, worker
from benchmarks.contenders import UnsupportedError, contenders, program
from benchmarks.contenders.steps import rules
from benchmarks.kinds import KINDS, Kind
from ffnn_gpu import layers
from ffnn_gpu.backends import Backend
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.optim import get_optimizer
from ffnn_gpu.optim.choice import OPTIMIZERS

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
SMALL = replace(KINDS["base"], name="small", layers=(kinds.hidden(width=8), kinds.output(3)), B=8, n_in=6)
INSTALLED = [
    name
    for name, found in contenders("cpu", "step").items()
    if name not in ("ours", "torch-compile") and importlib.util.find_spec(found.package)
]


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; its change of sys.path is undone afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- everything has a row


def offered():
    """Return (what, name) of everything the package offers to a training step."""
    kinds_of_layer = {
        name
        for name in layers.__all__
        if isinstance(kind := getattr(layers, name), type) and issubclass(kind, layers.Layer)
    } - {"Layer"}
    tables = {
        "activation": ACTIVATIONS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "layer": kinds_of_layer,
        "dtype": Backend.dtypes,
        "option": {entry.name for kind in OPTIMIZERS.values() for entry in fields(kind) if not entry.default},
    }
    return {(what, name) for what, names in tables.items() for name in names}


def with_rows(table):
    """Return (what, name) of everything that a kind in the table measures."""
    found = set()
    for kind in table.values():
        optimizer = get_optimizer(kind.optimizer, **kind.options)
        found |= {("loss", kind.loss), ("optimizer", kind.optimizer), ("dtype", kind.precision)}
        found |= {("layer", layer[0]) for layer in kinds.flat(kind.layers)}
        found |= {("activation", layer[2]) for layer in kind.layers[:1] if layer[0] == "Dense"}
        found |= {("option", entry.name) for entry in fields(optimizer) if getattr(optimizer, entry.name)}
    return found


def test_everything_the_package_offers_has_a_row():
    assert offered() - with_rows(KINDS) == set(), "add a kind to benchmarks/kinds.py for each of these"


def test_what_a_step_can_be_asked_for_is_offered():
    assert {("option", name) for name in ("l1", "l2", "clip_norm", "clip_value", "ema")} <= offered()
    assert {
        ("layer", "Residual"),
        ("dtype", "float64"),
        ("optimizer", "lion"),
        ("loss", "hinge"),
    } <= offered()


SIZES = [name for name in KINDS if re.match("batch|one output|.* hidden layer", name)]
# Other kinds have all that these have.
DOUBLE = ["base", "mean_squared_error", "sgd", "sgd with momentum", "sgd with nesterov"]


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SIZES + DOUBLE])
def test_a_kind_that_is_removed_is_missed(name):
    rest = {other: kind for other, kind in KINDS.items() if other != name}
    assert offered() - with_rows(rest)


def test_a_new_activation_is_missed(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "cube", Activation("cube", lambda xp, s, _: s**3, lambda xp, a, _: a))
    assert offered() - with_rows(KINDS) == {("activation", "cube")}


def test_sizes_have_rows():
    depths = {
        len(kind.layers) - 1 for kind in KINDS.values() if {layer[0] for layer in kind.layers} == {"Dense"}
    }
    assert {1, 3, 8, 32} <= depths
    assert {kind.B for kind in KINDS.values()} == {1, 32, 128, 4096}
    assert any(kind.layers[-1] == ("Dense", 1, "identity") for kind in KINDS.values())
    assert len(KINDS) >= 25


def test_a_kind_survives_its_way_to_the_child():
    for kind in KINDS.values():
        assert kinds.from_json(json.loads(json.dumps(asdict(kind)))) == kind


# --- the same work


def losses_of(name, kind):
    return worker.values(program(name, kind))


@pytest.mark.parametrize("peer", INSTALLED)
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.random])
def test_losses_of_every_contender_are_ours(name, peer):
    kind = replace(KINDS[name], lr=1e-3)
    if "16" in kind.precision:
        if peer == "numpy":
            pytest.skip("NumPy has no fast products of 16 bits")
        tolerance = {"float16": 1e-2, "bfloat16": 5e-2}[kind.precision]
    else:  # in float64, because rounding moves a ReLU of 32 layers over its kink
        kind, tolerance = replace(kind, precision="float64", B=min(kind.B, 256)), 1e-7
    if name == "muon" and peer.startswith("torch"):
        tolerance = 1e-3  # its products are in bfloat16
    values = {"ours": losses_of("ours", kind), peer: losses_of(peer, kind)}
    assert report.disagreements(values, tolerance) == []
    assert len(set(values["ours"])) > 1  # it learns


@pytest.mark.parametrize("peer", ["ours", *INSTALLED])
def test_dropout_changes_the_loss_of_every_contender(peer):
    kind = replace(KINDS["Dropout"], lr=0.0)
    found = losses_of(peer, kind)
    assert abs(found[0] - found[kinds.BATCHES]) > 1e-3  # the same rows and weights, other masks
    assert 0.5 < found[0] / losses_of(peer, replace(KINDS["base"], lr=0.0))[0] < 2


def test_a_contender_that_does_other_work_is_found(monkeypatch):
    honest = losses_of("ours", replace(SMALL, lr=1e-2))
    monkeypatch.setattr(rules, "BETA2", 0.99)
    other = losses_of("numpy", replace(SMALL, lr=1e-2))
    assert report.disagreements({"ours": honest, "numpy": other}, 1e-5) != []


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_numpy_says_why_it_has_no_16_bits(precision):
    with pytest.raises(UnsupportedError, match=f"of {precision} without a BLAS"):
        program("numpy", KINDS[precision])


def test_steps_use_the_minibatches_in_turn():
    found = losses_of("ours", replace(SMALL, lr=0.0))
    assert len(set(found)) == kinds.BATCHES and found[: kinds.BATCHES] == found[kinds.BATCHES :]


# --- the measurement


class FakeChild:
    """A child that notes what it is asked; `busy` is whether the other program runs."""

    asked, busy = [], False

    def __init__(self, name, kind, seconds):
        self.name, self.seconds = name, seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def send(self, request):
        self.asked.append((self.name, f"send {request}", self.busy))

    def answer(self):
        return {"missing": "it broke"} if self.name == "jax" else {"version": "1"}

    def ask(self, request):
        FakeChild.asked.append((self.name, request, FakeChild.busy))
        return {"us": 30.0 if FakeChild.busy else 10.0 + (self.name != "ours")}

    def end(self):
        return {"peak_bytes": 1}


@contextmanager
def noted():
    FakeChild.busy = True
    yield
    FakeChild.busy = False


@pytest.fixture
def measured(monkeypatch):
    """The groups of a kind, measured with children that only take notes."""
    monkeypatch.setattr(launcher, "Child", FakeChild)
    monkeypatch.setattr(launcher, "busy", noted)
    monkeypatch.setattr(launcher, "SHORT_PAUSE", dict.fromkeys(launcher.SHORT_PAUSE, 0))
    monkeypatch.setattr(launcher, "find_spec", lambda library: library != "torch")
    monkeypatch.setattr(FakeChild, "asked", [])
    return launcher.measure_kind(SMALL, lambda name: True, 3, 6.0)


def test_rounds_alternate_between_quiet_and_busy(measured):
    rounds = [(name, busy) for name, request, busy in FakeChild.asked if request == "round"]
    names = ["ours", "ours-checking", "numpy"]
    turns = [names, names[1:] + names[:1], names[2:] + names[:2]]
    assert rounds == [(name, busy) for turn in turns for busy in (False, True) for name in turn]


def test_a_kind_has_a_quiet_and_a_busy_group(measured):
    quiet, busy = measured
    assert (quiet["kind"], busy["kind"]) == ("step", "busy-step")
    assert (quiet["title"], busy["title"]) == ("step small, float32", "step small, float32, busy")
    assert quiet["results"]["ours"]["rounds_us"] == [10.0] * 3
    assert busy["results"]["ours"]["rounds_us"] == [30.0] * 3
    for group in measured:
        assert group["missing"]["jax"] == "it broke" and "jax" not in group["results"]
        assert group["missing"]["torch-fused"] == "torch is not installed"
        assert group["results"]["numpy"]["version"] == "1"


def test_every_contender_of_a_step_has_a_pause():
    assert {found.package for found in contenders("cpu", "step").values()} == set(launcher.SHORT_PAUSE)


def test_the_step_that_checks_its_targets_is_shown_but_not_compared(measured):
    quiet = measured[0]
    quiet["results"]["ours-checking"]["rounds_us"] = [1.0] * 3
    assert report.summarized(quiet)["ratios"]["best_peer_over_ours"] == pytest.approx(1.1)


def test_line_of_a_kind_has_both_ratios(measured):
    groups = [*map(report.summarized, measured)]
    assert report.ratios_of(groups) == "best peer / ours 1.10 (numpy)   busy 1.00 (numpy)"
    nobody = [group | {"ratios": {}} for group in groups]
    assert report.ratios_of(nobody) == "best peer / ours —   busy —"


def test_busy_program_runs_until_the_end_of_its_rounds(monkeypatch):
    started, popen = [], launcher.subprocess.Popen
    monkeypatch.setattr(
        launcher.subprocess,
        "Popen",
        lambda *args, **named: started.append(popen(*args, **named)) or started[0],
    )
    with launcher.busy():
        time.sleep(0.05)
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_a_quick_run_writes_both_groups_and_reports_progress(benchmark, tmp_path, capsys):
    file = tmp_path / "kinds.json"
    arguments = ["--kinds", "one output", "--quick", "--peers", "numpy", "--rounds", "1", "--json", str(file)]
    assert benchmark.main(arguments) == 0
    found, printed = json.loads(file.read_text(encoding="utf-8")), capsys.readouterr()
    assert printed.err.startswith("1/1 one output: best peer / ours ")
    assert "step one output, float32, busy" in printed.out
    assert found["settings"]["kinds"] == ["one output"] and found["settings"]["precision"] == "kinds"
    quiet, busy = found["groups"]
    assert set(quiet["results"]) == set(busy["results"]) == {"ours", "ours-checking", "numpy"}
    assert set(found["means"]) == {"step", "busy-step"}
    assert kinds.from_json(quiet["job"]) == replace(KINDS["one output"], threads=benchmark.cores())
    assert compare.main([str(file), str(file)]) == 0
    assert "| one output |" in page.section("kinds.json", found)


def test_check_compares_the_losses(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(launcher, "values", lambda name, kind: {"values": losses_of(name, kind)})
    assert benchmark.main(["--check", "--kinds", "hinge,Dropout", "--peers", "numpy"]) == 0
    assert capsys.readouterr().out == "step hinge: ours, ours-checking, numpy agree\n"
    monkeypatch.setattr(rules, "BETA2", 0.9)
    assert benchmark.main(["--check", "--kinds", "hinge", "--peers", "numpy"]) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--kinds", "gelu,nothing"], "unknown kind nothing"), (["--kinds", "--device", "cuda"], "on a CPU")],
)
def test_options_that_mean_nothing_are_refused(benchmark, arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert complaint in capsys.readouterr().err


def test_no_names_are_all_kinds(benchmark):
    assert benchmark.options(["--kinds"]).kinds == [*KINDS.values()]
    assert benchmark.options([]).kinds is None
    assert [kind.name for kind in benchmark.options(["--kinds", "batch 1, gelu"]).kinds] == [
        "gelu",
        "batch 1",
    ]


# --- the page


def result_of(*ratios):
    """Return a stored result with one kind for each pair (name, best peer / ours)."""
    machine = {
        "processor": "A",
        "cpus": 2,
        "platform": "Linux",
        "versions": {"python": "3.11"},
        "packages": {},
    }
    settings = {
        "device": "cpu",
        "precision": "kinds",
        "threads": 2,
        "rounds": 5,
        "seconds": 2.0,
        "quick": False,
    }
    groups = [
        report.summarized(
            {
                "title": name, "kind": which, "job": asdict(Kind(name)), "missing": {},
                "results": {"ours": {"rounds_us": [10.0]}, "jax": {"rounds_us": [10.0 * ratio]}},
            }
        )
        for name, ratio in ratios
        for which in ("step", "busy-step")
    ]  # fmt: skip
    return {"settings": settings | {"kinds": "all"}, "machine": machine, "date": "2026", "groups": groups}


def test_page_has_a_row_for_each_kind_and_names_the_slower_ones():
    text = page.section("a.json", result_of(("gelu", 2.0), ("hinge", 0.5), ("lion", 0.9)))
    assert text.startswith("## Kinds of step, cpu, commit no commit\n")
    assert "    python scripts/benchmark.py --kinds --threads 2 --rounds 5 --seconds 2.0\n" in text
    assert "| hinge | 10.0 µs ± 0 % | 5.00 µs ± 0 % | 0.50 (jax) |" in text
    assert text.count("3 kinds. A peer is faster in 2: hinge 0.50, lion 0.90.") == 2
    assert text.count("### ") == 2 and "beside another program" in text


def test_page_says_that_no_peer_is_faster():
    assert "1 kinds. No peer is faster." in page.section("a.json", result_of(("gelu", 1.5)))


def test_results_of_kinds_stand_after_those_of_whole_jobs():
    kinds_first = (
        page.rank(result_of(("gelu", 1.0))),
        page.rank({"settings": {}, "groups": [], "date": "2020"}),
    )
    assert kinds_first[0] < kinds_first[1]
