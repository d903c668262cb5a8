"""scripts/benchmark.py: contenders do the same work, figures are computed right, missing ones are named."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import launcher, report, worker
from benchmarks.contenders import (
    CONTENDERS,
    Program,
    UnsupportedError,
    contenders,
    ours,
    plain,
    products,
    program,
)
from benchmarks.jobs import Job, batch, jobs, weights
from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from tests.backends.cuda.fake_cublaslt import FakeCublasLt
from tests.backends.cuda.host_memory import FakeCupy

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
SMALL = Job("train", (6, 8, 5), 16, lr=1e-2)
EPOCH = Job("epoch", (7, 8, 5), 16, lr=1e-2, rows=100)
SLOW = ("torch-compile",)  # compiles for 20 s; `--check` compares it


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; its change of sys.path is undone afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made(monkeypatch):
    """(name, job) → the contender's program; skips if its library is not installed."""
    monkeypatch.setenv("KERAS_BACKEND", launcher.environment(1)["KERAS_BACKEND"])

    def make(name, job):
        if importlib.util.find_spec(CONTENDERS[name].package) is None:
            pytest.skip(f"{CONTENDERS[name].package} is not installed")
        return program(name, job)

    return make


def peers(kind):
    return [name for name in contenders("cpu", kind) if name in CONTENDERS and name not in SLOW]


# --- the same work


def losses_by_definition(job):
    """Return Adam's losses on softmax cross-entropy in float64, with gradients by central differences."""
    x, y = batch(job)
    shapes = [array.shape for layer in weights(job) for array in layer]
    cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    theta = np.concatenate([array.ravel() for layer in weights(job) for array in layer]).astype(np.float64)

    def loss(theta):
        W, b, V, c = (part.reshape(shape) for part, shape in zip(np.split(theta, cuts), shapes, strict=True))
        z = np.maximum(x @ W + b, 0) @ V + c
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

    m, v, h, found = 0, 0, 1e-6, []
    for t in range(1, worker.CHECKED_STEPS + 1):
        found.append(loss(theta))
        g = np.array([(loss(theta + e) - loss(theta - e)) / (2 * h) for e in h * np.eye(len(theta))])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - job.lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return found


@pytest.mark.parametrize("name", peers("train"))
def test_losses_of_every_contender_are_those_of_the_definition(made, name):
    found = worker.values(made(name, SMALL))
    assert report.disagreements({"definition": losses_by_definition(SMALL), name: found}, 1e-5) == []


@pytest.mark.parametrize("name", peers("predict"))
def test_outputs_of_every_contender_are_those_of_the_definition(made, name, benchmark):
    job = replace(SMALL, kind="predict")
    (W, b), (V, c) = weights(job)
    z = np.maximum(batch(job)[0] @ W + b, 0) @ V + c
    wanted, found = map(
        benchmark.normalized, ([z[:8].tolist()] * worker.CHECKED_STEPS, worker.values(made(name, job)))
    )
    assert report.disagreements({"definition": wanted, name: found}, 1e-5) == []


@pytest.mark.parametrize("name", peers("epoch"))
def test_an_epoch_of_every_contender_ends_with_a_loss(made, name):
    ready = made(name, EPOCH)
    ready.run(1)
    assert 0.1 < float(ready.value) < 10


def test_a_contender_that_does_other_work_is_found(monkeypatch):
    honest = worker.values(program("numpy", SMALL))
    monkeypatch.setattr(plain, "BETA2", 0.99)
    assert (
        report.disagreements({"numpy": honest, "other": worker.values(program("numpy", SMALL))}, 1e-5) != []
    )


def test_a_block_of_ours_makes_k_steps():
    one_by_one = worker.values(program("ours", SMALL))
    together = ours.train(replace(SMALL, K=3), "graph")
    together.run(1)
    assert (float(together.value), together.steps) == (one_by_one[2], 3)


# --- the ceiling and the floor


def test_products_are_those_of_a_step(monkeypatch):
    asked = []
    monkeypatch.setattr(
        products.Host, "product", lambda self, A, B, out: asked.append((A.shape, B.shape, out.shape))
    )
    job = Job("train", (4, 8, 6, 3), 5)
    program("products", job).run(1)
    assert asked == [
        ((5, 4), (4, 8), (5, 8)),
        ((5, 8), (8, 6), (5, 6)),
        ((5, 6), (6, 3), (5, 3)),
        ((6, 5), (5, 3), (6, 3)),
        ((5, 3), (3, 6), (5, 6)),
        ((8, 5), (5, 6), (8, 6)),
        ((5, 6), (6, 8), (5, 8)),
        ((4, 5), (5, 8), (4, 8)),
    ]
    assert sum(2 * n * k * m for (n, k), (_, m), _ in asked) == job.flop == 2 * 5 * (2 * 32 + 3 * 48 + 3 * 18)


class Device:
    """CuPy's Device 0."""

    compute_capability = "90"

    def __init__(self, index=0):
        assert index == 0

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return None

    def synchronize(self):
        pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_of_a_gpu_are_k_steps_of_one_graph_on_aligned_rows(monkeypatch, tmp_path, precision):
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    cupy, asked, honest = FakeCupy(), [], cublaslt.CublasLt.product

    def noted(lt, *arrays, **named):
        asked.append((arrays, named))
        return honest(lt, *arrays, **named)

    cupy.asarray = lambda array: cupy.array(array.astype(np.float64), array.dtype.name)
    cupy.cuda.Device = Device
    monkeypatch.setattr(cublaslt, "load_bindings", lambda: FakeCublasLt(cupy))
    monkeypatch.setattr(cublaslt.CublasLt, "product", noted)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ready = program("products", Job("train", (8, 16, 10), 32, K=4, device="cuda", precision=precision))
    planned, captured = asked[:5], asked[5:]
    ready.run(3)
    assert (len(planned), len(captured), ready.steps, cupy.graphs[-1].launched) == (5, 4 * 5, 4, 3)
    assert all(max(array.strides) % 16 == 0 for arrays, _ in captured for array in arrays)
    assert {array.dtype.name for (A, B, _), _ in captured for array in (A, B)} == {precision}
    assert {out.dtype.name for (_, _, out), _ in captured} == {"float32", precision}


def test_limits_are_rates(monkeypatch):
    monkeypatch.setattr(products, "SIZE", {"cpu": 64})
    monkeypatch.setattr(products, "COPIED", {"cpu": 2**16})
    monkeypatch.setattr(products, "shortest", lambda device, work: work() or 0.5)
    (found, *_) = worker.values(program("products", Job("limits", (1, 1), 1)))
    assert found == {"flop_per_second": 4 * 64**3, "bytes_per_second": 4 * 2**16}


def test_floor_is_products_or_input_and_then_adam():
    job = Job("train", (10, 20, 5), 4, precision="bfloat16")
    flop, adam, rows = 2 * 4 * (2 * 200 + 3 * 100), 30 * (200 + 20 + 100 + 5), 4 * (2 * 10 + 4)
    assert job.flop == flop
    assert job.floor(flop_per_second=flop, bytes_per_second=adam) == pytest.approx(2.0)
    assert job.floor(flop_per_second=1e30, bytes_per_second=1.0) == pytest.approx(rows + adam)


def test_networks_of_a_gpu_have_the_flop_that_was_worked_out_by_hand():
    found = {job.title: job.flop for job in jobs("cuda") if job.kind == "train"}
    assert found["train 784-128-10 B 128"] == 4 * 128 * 784 * 128 + 6 * 128 * 128 * 10
    assert found["train 64-64-64-64-64-64 B 262144"] == 2**18 * 64 * 64 * (4 + 6 * 4)
    assert found["train 8192-8192-8192-8192-8192 B 16384"] == 16384 * 8192 * 8192 * (4 + 6 * 3)


# --- figures

LIMITS = {"flop_per_second": 5.6e9, "bytes_per_second": 28e9}
GROUP = {
    "title": "train 10-20-5 B 4, float32", "kind": "train", "missing": {"jax": "jax is not installed"},
    "job": vars(Job("train", (10, 20, 5), 4)),
    "results": {
        "ours": {"rounds_us": [9.0, 10.0, 30.0, 11.0, 8.0], "peak_bytes": 50 * 2**20},
        "ours-graph": {"rounds_us": [8.0, 8.0, 8.0]},
        "torch": {"rounds_us": [20.0]},
        "numpy": {"rounds_us": [12.0, 12.0]},
        "products": {"rounds_us": [2.0]},
    },
}  # fmt: skip


def test_median_spread_and_ratios_are_worked_out():
    found = report.summarized(GROUP, LIMITS)
    assert (found["results"]["ours"]["median_us"], found["results"]["ours"]["spread"]) == (
        10.0,
        pytest.approx(0.2),
    )
    assert found["ratios"] == {
        "best_peer": "numpy",
        "best_peer_over_ours": 1.5,
        "fraction_of_products": 0.25,
        "floor_us": pytest.approx(1.0 + 0.325),
        "ours_over_floor": pytest.approx(8 / 1.325),
    }


def test_table_shows_every_contender_and_names_the_absent():
    text = report.table(report.summarized(GROUP, LIMITS))
    words = [line.split() for line in text.splitlines()]
    assert ["ours", "10", "20%", "1.25", "50"] in words and ["ours-graph", "8", "0%", "1.00"] in words
    assert ["jax", "—", "jax", "is", "not", "installed"] in words
    assert text.endswith(
        "ours 1.50 (numpy)   fraction of raw products 0.25   ours / floor 6.04 (floor 1.325 µs)"
    )


@pytest.mark.parametrize("name", ["ours", "torch"])
def test_a_group_without_ours_or_without_peers_has_a_table_too(name):
    found = report.summarized(GROUP | {"results": {name: {"rounds_us": [1.0]}}})
    assert found["ratios"] == {} and name in report.table(found)


def test_means_are_geometric_and_by_kind():
    name = "best_peer_over_ours"
    groups = [
        {"kind": kind, "ratios": {name: r}} for kind, r in (("train", 1.0), ("train", 4.0), ("epoch", 3.0))
    ]
    found = report.means([*groups, {"kind": "epoch", "ratios": {}}])
    assert found == {"train": {name: pytest.approx(2.0)}, "epoch": {name: pytest.approx(3.0)}}
    assert report.mean_lines(found)[0] == "geometric mean, train: best peer / ours 2.00"


@pytest.mark.parametrize(("got", "count"), [([1.0, 2.0], 0), ([1.0, 2.1], 1), ([1.0, math.nan], 1)])
def test_disagreement_is_relative_to_the_largest_value_and_sees_nan(got, count):
    assert len(report.disagreements({"a": [1.0, 2.0], "b": got}, 1e-3)) == count


# --- the machinery


def test_environment_has_equal_threads_and_no_settings(monkeypatch):
    settings = {"OMP_PROC_BIND", "XLA_FLAGS", "FFNN_GPU_DEVICE"}
    for name in settings:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUPY_CACHE_DIR", "/somewhere")
    found = launcher.environment(3)
    assert not settings & set(found) and found["CUPY_CACHE_DIR"] == "/somewhere"
    assert {found[name] for name in launcher.THREADS} == {"3"}
    for precision, switched in (("float32", "0"), ("tf32", "1"), ("bfloat16", "0")):
        found = launcher.environment(3, precision)
        assert found["CUPY_TF32"] == found["FFNN_GPU_TF32"] == switched


def test_a_block_is_launches_with_one_wait_at_the_end():
    events = []
    ready = Program(lambda: events.append("launch"), lambda result: events.append("wait"))
    assert worker.block(ready, 3) > 0
    assert events == ["launch"] * 3 + ["wait"]


def test_a_block_lasts_as_long_as_asked(monkeypatch):
    ready = SimpleNamespace(run=lambda launches: None)
    monkeypatch.setattr(worker, "block", lambda ready, launches: 0.003 * launches)
    assert worker.warm_up(ready, 0.6, "train") == 200
    assert worker.warm_up(ready, 0.001, "train") == worker.warm_up(ready, 0.6, "epoch") == 1


def test_time_is_that_of_one_step_however_many_a_launch_makes(monkeypatch):
    monkeypatch.setattr(worker, "block", lambda ready, launches: 0.003 * launches)
    assert worker.microseconds_per_step(SimpleNamespace(steps=4), 20) == pytest.approx(750)


def test_a_quick_run_names_the_absent_and_writes_all(benchmark, tmp_path, monkeypatch, capsys):
    installed = importlib.util.find_spec
    monkeypatch.setattr(launcher, "find_spec", lambda name: None if name == "torch" else installed(name))
    file = tmp_path / "new" / "result.json"
    arguments = [
        "--quick",
        "--peers",
        "numpy,torch",
        "--networks",
        "train,import",
        "--rounds",
        "1",
        "--json",
        str(file),
    ]
    assert benchmark.main(arguments) == 0
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    assert printed.count("torch is not installed") == 2 and "best peer / ours" in printed
    assert set(found) == {"schema", "date", "settings", "machine", "limits", "groups", "means"}
    assert {"processor", "cpus", "platform", "versions", "packages", "commit"} <= set(found["machine"])
    train, imports = found["groups"]
    assert set(train) == {"title", "kind", "job", "results", "missing", "ratios"}
    assert set(train["results"]) == {"ours", "numpy", "products"} and set(train["missing"]) == {"torch"}
    assert set(train["results"]["ours"]) == {"rounds_us", "version", "peak_bytes", "median_us", "spread"}
    assert imports["results"]["ours"]["median_us"] > 1000


def test_a_contender_that_fails_or_dies_is_missing_with_its_reason():
    with launcher.Child("nobody", SMALL) as child:
        assert child.ask("warm")["missing"] == "KeyError: 'nobody'"
    group = {"results": {"numpy": {"rounds_us": []}}, "missing": {}}
    with launcher.Child("numpy", SMALL, seconds=0.001) as child:
        assert "version" in child.ask("warm")
        child.process.kill()
        launcher.note(group, "numpy", child.ask("round"))
    assert group["missing"] == {"numpy": "its process ended without an answer"} and not group["results"]


def test_scikit_learn_says_why_it_has_no_two_classes():
    pytest.importorskip("sklearn")
    with pytest.raises(UnsupportedError, match="one logistic output"):
        program("sklearn", Job("train", (8, 4, 2), 8))


@pytest.mark.parametrize("arguments", [["--precision", "bfloat16"], ["--peers", "nobody"]])
def test_options_that_mean_nothing_are_refused(benchmark, arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", ["train", "predict", "epoch", "limits"])
def test_every_contender_has_the_function_it_is_listed_for(device, kind):
    for contender in contenders(device, kind).values():
        module = importlib.import_module(f"benchmarks.contenders.{contender.file}")
        assert callable(getattr(module, kind))


def test_a_machine_without_a_gpu_is_told_so(benchmark, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert benchmark.main(["--device", "cuda", "--quick"]) == 2
    assert capsys.readouterr().err.startswith("error: no GPU can be used: ")


@pytest.mark.parametrize(("beta2", "code"), [(0.999, 0), (0.9, 1)])
def test_check_compares_the_contenders(benchmark, monkeypatch, capsys, beta2, code):
    def values(name, job):
        return {"values": worker.values(program(name, job))}

    monkeypatch.setattr(launcher, "values", values)
    monkeypatch.setattr(plain, "BETA2", beta2)
    assert benchmark.main(["--check", "--quick", "--peers", "numpy"]) == code
    assert "predict 784-512-512-10 B 1: ours, ours-predict, numpy agree" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/home/me/project/worker.py", "C:\\Users\\me\\worker.py"])
def test_published_traceback_tells_nothing_of_the_machine_s_folders(path):
    group = {"results": {}, "missing": {}}
    launcher.note(group, "keras", {"missing": "absent", "traceback": f'File "{path}", line 48, in work\n'})
    assert group["tracebacks"] == {"keras": 'File "worker.py", line 48, in work\n'}
