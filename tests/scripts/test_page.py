"""benchmarks/page.py: docs/benchmarks.md shows the stored results, all of them and nothing else."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import page

ROOT = Path(__file__).resolve().parents[2]
STORED = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in (ROOT / "benchmarks" / "results").glob("*.json")
}


@pytest.fixture(scope="module")
def text():
    return page.page()


def test_stored_page_is_what_the_command_writes(text):
    stored = page.PAGE.read_text(encoding="utf-8")
    assert stored == text, "run python benchmarks/page.py"


def test_every_result_file_has_a_section_with_its_command(text):
    sections = text.split("\n## ")[1:]
    for name in STORED:
        (section,) = [section for section in sections if f"results/{name})" in section]
        assert re.search(r"^    python scripts/\w+\.py", section, re.M), name
        assert "- Machine: " in section


@pytest.mark.parametrize("name", sorted(name for name in STORED if "groups" in STORED[name]))
def test_every_measured_time_is_shown(text, name):
    (section,) = [section for section in text.split("\n## ") if f"results/{name})" in section]
    shown = [
        cell.strip() for line in section.splitlines() if line.startswith("|") for cell in line.split("|")
    ]
    for group in STORED[name]["groups"]:
        for result in group["results"].values():
            assert page.spread(result) in shown
            shown.remove(page.spread(result))
    assert not [cell for cell in shown if "±" in cell]


def test_command_names_the_jobs_of_a_partial_run():
    (result,) = [STORED[name] for name in STORED if "f2a41c923d" in name]
    want = '--networks "epoch 784-512-512-10 B 128" --threads 2 --rounds 7 --seconds 0.3 --data DIR'
    assert page.command(result) == f"python scripts/benchmark.py {want}"


def test_command_of_a_gpu_names_device_and_precision():
    settings = {
        "device": "cuda",
        "precision": "tf32",
        "threads": 8,
        "rounds": 7,
        "seconds": 0.3,
        "quick": False,
    }
    found = page.command({"settings": settings, "groups": []})
    assert found.startswith("python scripts/benchmark.py --device cuda --precision tf32 ")


def test_growth_is_read_with_and_without_its_machine():
    lines = [{"what": "width", "size": 8, "widths": [4, 8, 2], "B": 16, "us": 12.3, "gflops": 1.0}]
    machine = {
        "processor": "A",
        "cpus": 2,
        "platform": "Linux",
        "versions": {"python": "3.11"},
        "packages": {},
    }
    with_machine = page.of_growth(
        "a-scaling.json", {"lines": lines, "machine": machine, "date": "2026-11-29"}
    )
    assert "- Machine: A, 2 cores" in with_machine and "- Date: 2026-11-29" in with_machine
    without = page.of_growth("a-scaling.json", lines)
    assert "- Machine: not recorded in the file" in without
    assert "| width | 8 | 4-8-2 | 16 | 12.3 µs | 1 |" in without and "| 12.3 µs |" in with_machine


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0.5, "0.500 µs"),
        (34.4, "34.4 µs"),
        (441, "441 µs"),
        (3700, "3.70 ms"),
        (83e3, "83.0 ms"),
        (1.74e6, "1.74 s"),
    ],
)
def test_time_has_three_digits_and_a_unit_that_suits(us, text):
    assert page.time(us) == text


def test_runs_of_equal_widths_are_shortened():
    assert page.network([784, 512, 512, 10]) == "784-512-512-10"
    assert page.network([256] * 17 + [10]) == "256×17-10"


def test_check_writes_nothing_and_fails_on_a_stale_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    assert page.main(["--check"]) == 1
    assert "out of date: run python benchmarks/page.py" in capsys.readouterr().err
    assert page.main([]) == 0
    assert page.main(["--check"]) == 0
    page.PAGE.write_text("other", encoding="utf-8")
    assert page.main(["--check"]) == 1


@pytest.mark.parametrize("name", sorted(name for name in STORED if name.endswith("-tables.json")))
def test_every_library_of_a_table_is_shown_with_its_median(text, name):
    (section,) = [section for section in text.split("\n## ") if f"results/{name})" in section]
    medians = STORED[name]["medians"]
    for library, median in medians.items():
        ratio = medians["ffnn_gpu"]["megabytes"] / median["megabytes"]
        row = rf"^\| {re.escape(library)} \| {median['seconds']:.2f} s .* {ratio:.2f} \|$"
        assert re.search(row, section, re.M)
