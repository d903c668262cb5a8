"""scripts/gpu_quick.py and gpu_report.py: the two minutes on a GPU, here on the emulator, and their page."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks.gpu_model.machine import H200
from benchmarks.gpu_model.operations import operations, predicted
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import FakeCupy, installed

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def scripts():
    """Return (gpu_quick, gpu_report)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("gpu_quick"), importlib.import_module("gpu_report")


def made_on(cupy):
    with pytest.MonkeyPatch.context() as patch, installed(patch, cupy):
        return CupyBackend()


@pytest.fixture(scope="module")
def result(scripts, tmp_path_factory):
    """Return (exit code, report) of a check on the emulator."""
    emulator.require()
    backend, file = made_on(CupyWithCublasLt()), tmp_path_factory.mktemp("quick") / "quick.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts[0], "KINDS", {"normalized": scripts[0].KINDS["normalized"]})
        patch.setattr(scripts[0], "ROWS", 16)
        code = scripts[0].main(["--json", str(file), "--small"], backend)
    return code, json.loads(file.read_text())


def test_every_part_passes_on_the_emulator(result):
    code, report = result
    assert (code, {name: part.get("why") for name, part in report.items()}) == (
        0, dict.fromkeys(("products", "steps", "graphs", "operations"))
    )  # fmt: skip
    assert set(report["products"]["error over tolerance"]) == {"float32", "float64", "float16", "bfloat16"}
    assert report["graphs"]["equal bits"] == ["branches", "chain", "kernels"]


def test_every_operation_is_timed_beside_its_prediction(result):
    rows = result[1]["operations"]["operations"]
    assert len(rows) == 16 and rows[0]["size"] == [16, 8, 8]
    assert all(row["predicted"] >= 2 and row["microseconds"] >= 0 for row in rows)


def test_gpu_without_cublaslt_ends_the_check(scripts, tmp_path, capsys):
    file = tmp_path / "quick.json"
    assert scripts[0].main(["--json", str(file), "--small"], made_on(FakeCupy())) == 1
    report = json.loads(file.read_text())
    assert [*report] == ["products"] and "nvmath" in report["products"]["why"]
    assert capsys.readouterr().out.startswith(
        "products: RuntimeError: cupy.matmul, which no CUDA graph can hold"
    )


def test_graph_with_other_bits_is_a_failure(scripts, monkeypatch):
    backend, number = made_on(FakeCupy()), iter(range(6))
    monkeypatch.setattr(scripts[0], "trained", lambda *_, **__: next(number) // 2)
    with pytest.raises(AssertionError, match="a graph of branches computes other bits than its kernels"):
        scripts[0].graphs(backend, True)


def test_machine_without_a_gpu_ends_with_2(scripts, tmp_path):
    found = importlib.import_module("ffnn_gpu.backends.choice").probe(0)
    if not found.usable:
        assert scripts[0].main(["--json", str(tmp_path / "quick.json")]) == 2


def test_operations_on_paper_are_those_on_the_device():
    want = predicted(H200, 128, 64, 32, "bfloat16")
    assert [*want] == [*operations(made_on(FakeCupy()), 16, 8, 8, "float32")]
    assert all(2e-6 <= value < 1e-5 for name, value in want.items() if "BatchNorm" not in name)
    large = predicted(H200, 2**17, 64, 64, "bfloat16")
    assert large["copy"] == pytest.approx(2 * 2**17 * 64 * 2 / H200.bytes_per_second, rel=1e-3)


# --- the report


COPY = {"operation": "copy", "size": [1, 2, 3], "dtype": "float32", "microseconds": 4.0, "predicted": 2.0}
TIMED = {"operations": [COPY, COPY | {"operation": "take", "microseconds": 9.0}]}
REPORT = {
    "commit": "a" * 40,
    "date": "2026-01-02T03:04:05+00:00",
    "steps": {
        "machine": {"outcome": "passed", "seconds": 3, "gpu": "a GPU"},
        "quick": {"outcome": "failed", "seconds": 90.5, "why": "operations: too hot", "operations": TIMED},
        "mnist": {"outcome": "not run"},
    },
}
TRAIN = {
    "kind": "train",
    "job": {"widths": [784, 128, 10], "B": 128, "precision": "bfloat16"},
    "results": {"ours": {"median_us": 28.0}},
}


def later(date, **steps):
    return REPORT | {"date": date, "steps": {"machine": REPORT["steps"]["machine"]} | steps}


def test_reports_of_several_calls_become_one_page(scripts, tmp_path):
    benchmark = {"outcome": "passed", "seconds": 400, "figures": {"groups": [TRAIN]}}
    mnist = {"outcome": "passed", "seconds": 20}
    calls = [later("2026-01-03", benchmark=benchmark), REPORT, later("2026-01-04", mnist=mnist)]
    for number, report in enumerate(calls):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "gpu_check.json").write_text(json.dumps(report))
    folders = [str(tmp_path / str(number)) for number in range(3)]
    assert scripts[1].main([*folders, "--page", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| quick | failed: operations: too hot | 90.5 |" in text and "| mnist | passed | 20 |" in text
    assert "| 784-128-10 | 128 | bfloat16 | 28 | " in text
    assert text.index("| take | 1 2 3 | float32 | 9 | 2 | 4.50 |") < text.index("| copy |")


def test_later_call_replaces_a_step(scripts):
    again = later("2026-01-03", quick={"outcome": "passed", "seconds": 80})
    assert scripts[1].merged([again, REPORT])["steps"]["quick"]["outcome"] == "passed"


@pytest.mark.parametrize(("change", "what"), [({"commit": "b" * 40}, "2 commits"), ({}, "2 GPUs")])
def test_reports_that_do_not_belong_together_are_refused(scripts, change, what):
    other = later(
        "2026-01-03",
        machine={"outcome": "passed", "seconds": 1, "gpu": "another"}
        if not change
        else REPORT["steps"]["machine"],
    )
    with pytest.raises(SystemExit, match=what):
        scripts[1].merged([REPORT, other | change])
