"""benchmarks/compare.py: a slower job fails, a slower machine does not, and nothing is left out silently."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from benchmarks import compare

STORED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "amd-epyc-506e9c78cb-float32.json"


def result(**times):
    """A result with one job: contender → microseconds."""
    job = {"kind": "train", "widths": [8, 32, 2], "B": 32}
    results = {name.replace("_", "-"): {"median_us": us, "version": "1"} for name, us in times.items()}
    group = {"title": "train 8-32-2 B 32", "kind": "train", "job": job, "results": results, "missing": {}}
    settings = {"device": "cpu", "precision": "float32", "threads": 2}
    return {"schema": 1, "settings": settings, "machine": {"processor": "A"}, "groups": [group]}


@pytest.fixture
def run(tmp_path, capsys):
    """(before, after, options) → (exit code, stdout, stderr) of the command."""

    def run(before, after, *options):
        paths = []
        for name, content in (("before", before), ("after", after)):
            paths.append(tmp_path / f"{name}.json")
            text = content if isinstance(content, str) else json.dumps(content)
            paths[-1].write_text(text, encoding="utf-8")
        code = compare.main([*map(str, paths), *options])
        return code, *capsys.readouterr()

    return run


def test_result_equals_itself(run):
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    code, out, err = run(stored, stored)
    assert (code, err) == (0, "")
    assert "none is slower" in out
    assert len(out.splitlines()) == 2 + 11  # eight jobs, of which `predict` has two of ours, and the import


@pytest.mark.parametrize(("ours", "code"), [(109, 0), (111, 1), (50, 0)])
def test_job_slower_than_the_threshold_fails(run, ours, code):
    found, out, err = run(result(ours=100, torch=300, jax=200), result(ours=ours, torch=300, jax=200))
    assert (found, err) == (code, "")
    assert ("slower\n" in out.replace("none is slower", "")) == bool(code)


def test_threshold_is_an_option(run):
    before, after = result(ours=100, torch=300), result(ours=130, torch=300)
    assert run(before, after, "--threshold", "1.4")[0] == 0
    assert run(before, after, "--threshold", "1.2")[0] == 1


def test_slower_machine_is_no_slower_job(run):
    assert run(result(ours=100, torch=300, jax=200), result(ours=200, torch=600, jax=400))[0] == 0


def test_job_slower_than_peers_on_a_faster_machine_fails(run):
    assert run(result(ours=100, torch=300, jax=200), result(ours=80, torch=150, jax=100))[0] == 1


def test_one_disturbed_peer_changes_nothing(run):
    before = result(ours=100, torch=300, jax=200, numpy=400)
    assert run(before, result(ours=105, torch=300, jax=200, numpy=4000))[0] == 0
    assert run(before, result(ours=150, torch=300, jax=200, numpy=4000))[0] == 1


def test_without_a_common_peer_the_time_counts_and_a_warning_tells(run):
    code, out, err = run(result(ours=100, torch=300), result(ours=120, jax=300))
    assert code == 1
    assert "warning: train 8-32-2 B 32 has no common peer" in err
    assert "—" in out


def test_peer_of_another_version_is_no_peer(run):
    before, after = result(ours=100, torch=300), result(ours=200, torch=600)
    after["groups"][0]["results"]["torch"]["version"] = "2"
    code, _, err = run(before, after)
    assert code == 1
    assert "no common peer" in err


def test_contender_of_ours_that_failed_is_a_failure(run):
    after = result(torch=300)
    after["groups"][0]["missing"]["ours"] = "its process ended without an answer"
    code, out, _ = run(result(ours=100, torch=300), after)
    assert code == 1
    assert "failed: its process ended without an answer" in out


def test_each_of_our_contenders_is_compared(run):
    before = result(ours=100, ours_predict=150, torch=300)
    assert run(before, result(ours=100, ours_predict=250, torch=300))[0] == 1


def test_job_that_is_absent_or_another_is_named(run):
    before, after = result(ours=100, torch=300), result(ours=100, torch=300)
    more = deepcopy(before["groups"][0]) | {"title": "train 9-9 B 1"}
    changed = deepcopy(before["groups"][0]) | {"title": "epoch"}
    before["groups"] += [more, changed]
    after["groups"].append(deepcopy(changed) | {"job": {"rows": 5}})
    code, _, err = run(before, after)
    assert code == 0
    assert "AFTER does not measure train 9-9 B 1" in err
    assert "epoch is another job in AFTER" in err


def test_another_processor_is_named(run):
    after = result(ours=100, torch=300)
    after["machine"]["processor"] = "B"
    code, _, err = run(result(ours=100, torch=300), after)
    assert (code, err) == (0, "warning: the processor is A in BEFORE and B in AFTER\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON file"),
        ("[]", "is no result of"),
        ('{"schema": 1, "measured": []}', "schema 1 or groups are missing"),
    ],
)
def test_file_that_is_no_result_is_refused(run, content, words):
    code, out, err = run(result(ours=1), content)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and words in err


def test_absent_file_is_refused(capsys):
    assert compare.main(["absent-1.json", "absent-2.json"]) == 2
    assert capsys.readouterr().err == "error: absent-1.json cannot be read: No such file or directory\n"


def test_other_settings_are_refused(run):
    after = result(ours=100)
    after["settings"]["threads"] = 4
    assert (
        run(result(ours=100), after)[2]
        == "error: threads is 2 in BEFORE and 4 in AFTER; measure both alike\n"
    )


def test_results_without_a_common_job_are_refused(run):
    after = result(ours=100)
    after["groups"] = []
    assert "no job in common" in run(result(ours=100), after)[2]


def test_threshold_below_one_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run(result(ours=1), result(ours=1), "--threshold", "0.9")
    assert "--threshold=0.9 must be at least 1" in capsys.readouterr().err
