"""Each proof detects the fault it is made for; scripts/prove.py runs them in full."""

import os
import re
import time

import pytest

from ffnn_gpu.checkpoints import checkpoint
from proofs import (
    Figure,
    Settings,
    bugs,
    damage,
    false_alarms,
    full_disk,
    kills,
    payloads,
    promised,
    resume,
    suite,
)
from proofs.planted import NAMED
from proofs.task import STEPS, train


@pytest.fixture
def repository(tmp_path):
    """A package with one number and a test of it."""
    (tmp_path / "ffnn_gpu.py").write_text("x = 1\n")
    (tmp_path / "conftest.py").write_text("import ffnn_gpu\n")
    (tmp_path / "test_code.py").write_text(
        "import ffnn_gpu\n1 / ffnn_gpu.x\ndef test_x(): assert ffnn_gpu.x == 1\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -rfE\nmarkers = gpu\npythonpath = .\n")
    return tmp_path


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("x = 2\n", "test_code.py::test_x"),
        ("x = 0\n", "test_code.py"),
        ("x = 1 / 0\n", "import ffnn_gpu: ZeroDivisionError: division by zero"),
        ("x = 1.0\n", None),
    ],
)
def test_suite_names_what_caught_a_bug_and_mends_the_copy(repository, broken, seen):
    assert suite.caught_by(repository, "ffnn_gpu.py", broken, [["test_code.py"]]) == seen
    assert (repository / "ffnn_gpu.py").read_text() == "x = 1\n"
    assert suite.caught_by(repository, "ffnn_gpu.py", "x = 1.0\n", [["test_code.py"]]) is None


def test_suite_that_does_not_end_has_noticed(repository):
    (repository / "test_code.py").write_text("def test_x():\n    while True: pass\n")
    assert suite.first_failure(repository, ["test_code.py"], seconds=1.0) == "no end after 1 s"


def test_bug_is_caught_only_by_a_test_that_passes_without_it(tmp_path, monkeypatch):
    """A test that is red by itself catches nothing, and the search goes on behind it."""
    (tmp_path / "code.py").write_text("x = 1\n")

    def first_failure(folder, tests, *options):
        broken = (folder / "code.py").read_text() == "x = 2\n"
        red = ["a.py::test_red[1]", *(["a.py::test_x[2]"] if broken else [])]
        left_out = [test.removeprefix("--deselect=") for test in tests if test.startswith("--deselect=")]
        chosen = [test for test in red if tests[0] in ("a.py", test.split("[")[0])]
        return next((test for test in chosen if test.split("[")[0] not in left_out), None)

    monkeypatch.setattr(suite, "first_failure", first_failure)
    assert suite.caught_by(tmp_path, "code.py", "x = 2\n", [["a.py"]]) == "a.py::test_x[2]"
    assert suite.caught_by(tmp_path, "code.py", "x = 1.0\n", [["a.py"]]) is None
    assert (tmp_path / "code.py").read_text() == "x = 1\n"


def test_there_is_no_verdict_if_tests_do_not_end_without_the_bug_either(repository, monkeypatch):
    ends = {"broken": "no end after 1 s", "whole": "no end after 1 s"}

    def first_failure(folder, *options):
        return ends["whole" if (folder / "ffnn_gpu.py").read_text() == "x = 1\n" else "broken"]

    monkeypatch.setattr(suite, "first_failure", first_failure)
    with pytest.raises(suite.NoVerdictError, match="no end after 1 s with and without the change"):
        suite.caught_by(repository, "ffnn_gpu.py", "x = 2\n", [["test_code.py"]], seconds=1.0)
    ends["whole"] = None  # the bug makes an endless loop
    assert suite.caught_by(repository, "ffnn_gpu.py", "x = 2\n", [["test_code.py"]]) == "no end after 1 s"


def test_no_verdict_is_neither_a_catch_nor_a_survivor():
    rows = [("a", "tests/x.py"), ("b", "no verdict: no end after 1 s")]
    figure = bugs._row("p", rows)
    assert (figure.figure, figure.outcome) == ("no verdict of 1, 1 of 2 caught", "no verdict")
    assert bugs._row("p", [*rows, ("c", None)]).outcome == "FAILS"
    assert bugs._row("p", rows[:1]).outcome == "holds"
    assert bugs.baseline("p", "no end after 900 s").outcome == "no verdict"
    assert bugs.baseline("p", "tests/x.py").outcome == "FAILS" and bugs.baseline("p", None).outcome == "holds"


@pytest.mark.parametrize(
    ("tests", "chosen"),
    [
        (["test_nowhere.py"], ""),
        (["--nonsense", "test_code.py"], ""),
        (["test_code.py"], "nothing"),
        ([], "x and"),
    ],
)
def test_suite_that_tries_nothing_has_not_noticed(repository, tests, chosen):
    with pytest.raises(RuntimeError, match=r"ended with [2-5] without a result"):
        suite.first_failure(repository, tests, chosen)


def test_selection_that_is_red_without_a_bug_is_named(repository):
    (repository / "test_red.py").write_text("def test_of_itself(): assert False\n")
    assert suite.unhealthy(repository, [(("test_code.py",), "")]) is None
    assert (
        suite.unhealthy(repository, [(("test_code.py",), ""), (("test_red.py",), "")])
        == "test_red.py::test_of_itself"
    )


def test_red_selection_is_repeated_before_it_is_believed(monkeypatch):
    answers = iter(["test_a.py::test_chance", None, "test_b.py::test_b", "test_b.py::test_b"])
    monkeypatch.setattr(suite, "first_failure", lambda *given, **named: next(answers))
    assert suite.unhealthy(suite.ROOT, [(("test_a.py",), ""), (("test_b.py",), "")]) == "test_b.py::test_b"


def test_false_alarm_proof_counts_rejected_networks(tmp_path, monkeypatch):
    assert [false_alarms.draw(k).network.compute_dtype.name for k in range(4)] == [*false_alarms.TYPES]
    again = false_alarms.draw(5)
    assert again.network == false_alarms.draw(5).network and (again.x == false_alarms.draw(5).x).all()

    def rejects(drawn):
        assert drawn.number % 2, "odd numbers only"

    checked, found = false_alarms.alarms(rejects, 4)
    assert checked == 4 and [line[:2] for line in found] == ["0,", "2,"]
    monkeypatch.setattr(false_alarms, "gradients", rejects)
    monkeypatch.setattr(false_alarms, "parity", lambda drawn: None)
    figures = false_alarms.prove(Settings(tmp_path, examples=4, say=lambda line: None))
    assert [figure.holds for figure in figures] == [False, True, True]


def test_what_bugs_and_mutants_meet_is_what_the_healthy_copy_met(tmp_path, monkeypatch):
    met, healthy = set(), set()

    def first_failure(folder, tests, chosen="", seconds=None, settings=None):
        whole = all(
            (folder / file).read_text() == (suite.ROOT / file).read_text() for file in {b.file for b in NAMED}
        )
        (healthy if whole else met).add((tuple(tests), chosen))

    monkeypatch.setattr(suite, "first_failure", first_failure)
    monkeypatch.setattr(bugs, "FURTHER", ())
    figures = bugs.prove(Settings(tmp_path, say=lambda line: None))
    assert [figure.holds for figure in figures[:2]] == [True, False] and met == healthy != set()


def test_tests_of_the_suite_proof_exist():
    named = [
        *suite.NUMERICAL,
        *(test for file in suite.NEAREST for tests in suite.stages(file) for test in tests),
    ]
    assert not [test for test in named if not promised.exists(test)]


def test_kill_proof_sees_a_torn_checkpoint_other_numbers_and_what_is_left_behind(tmp_path):
    run, copy = tmp_path / "run", tmp_path / "copy"
    whole = train(run, epochs=kills.EPOCHS)
    assert kills._losses(run, copy, whole) == []
    assert kills._losses(run, copy, whole | {"theta": ""}) == ["the resumed training came to other numbers"]
    left = ".last.safetensors.1-0123abcd.half"  # process 1 lives: not removed
    (run / left).write_bytes(b"")
    assert kills._losses(run, copy, whole) == [f"{left} was left behind"]
    file = run / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged" in kills._losses(run, copy, whole)[0]


def test_kill_proof_loses_something_where_a_checkpoint_is_written_in_place(tmp_path):
    """A writer that is killed in between leaves a mixture of two files."""
    whole = train(tmp_path / "run", epochs=kills.EPOCHS)
    first = train(tmp_path / "other", epochs=kills.EPOCHS, stop=2)
    new, old = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("run", "other"))
    (tmp_path / "run" / "last.safetensors").write_bytes(new[:9000] + old[9000:])
    assert first != whole and kills._losses(tmp_path / "run", tmp_path / "copy", whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_proof_loses_something_where_the_old_checkpoint_goes_before_the_new_one_comes(
    tmp_path, monkeypatch
):
    """Such a training begins again and comes to the same numbers; only what was written before tells."""

    def replace(half, path, parent=os.getpid(), original=os.replace):
        path.unlink(missing_ok=True)
        if os.getpid() != parent:
            time.sleep(0.02)  # where most of the kills come
        original(half, path)

    monkeypatch.setattr(os, "replace", replace)
    (figure,) = kills.prove(Settings(tmp_path, kills=10, say=lambda line: None))
    assert figure.holds is False
    assert [
        line
        for line in figure.details
        if re.fullmatch(r"`last` held \d+ updates and holds none after the kill", line)
    ]


def test_kill_proof_sees_an_older_checkpoint_and_that_too_little_was_tried(tmp_path):
    trial = kills.Trial(tmp_path, killed=4, torn=1)
    train(tmp_path, epochs=1)
    assert not kills._went_back(trial) and kills._figure(trial).holds
    trial.written[:] = (7).to_bytes(8, "big")
    assert (
        kills._went_back(trial)
        == kills._went_back(trial)
        == ["`last` held 7 updates and holds 3 after the kill"]
    )
    trial.torn = 0
    assert not kills._figure(trial).holds and "none fell within a write" in kills._figure(trial).details[0]


def test_damage_proof_flips_every_bit_and_tells_a_refusal_from_a_load(tmp_path):
    assert len({content for _, content in damage.flips(b"abc")} - {b"abc"}) == 24
    assert [content for _, content in damage.cuts(b"abc")] == [b"", b"a", b"ab"]
    train(tmp_path, epochs=1)
    assert not damage.is_refused(tmp_path / "last")
    (tmp_path / "last.safetensors").write_bytes(b"{}")
    assert damage.is_refused(tmp_path / "last")


def test_disk_proof_fails_where_nothing_was_refused_or_something_lost():
    assert [
        full_disk._row("", found).holds
        for found in (
            {"refused": 3, "lost": []},
            {"refused": 0, "lost": []},
            {"refused": 3, "lost": ["x"]},
            {"reason": "no mount"},
        )
    ] == [True, False, False, None]


def test_resume_proof_sees_a_position_that_is_not_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    pair = ("adam", "one_cycle")
    whole = train(tmp_path / "whole", *pair)
    assert resume._parts(tmp_path, pair, 2) == whole and STEPS == 6
    train(tmp_path / "cut", *pair, stop=2)
    network, state, arrays = checkpoint.read(tmp_path / "cut" / "last", "numpy")
    state["training"]["position"] = 1
    checkpoint.write(network, tmp_path / "cut" / "last", state, arrays)
    assert train(tmp_path / "cut", *pair) != whole


def test_no_payload_is_executed(tmp_path):
    (figure,) = payloads.prove(Settings(tmp_path))
    assert figure.holds and figure.figure == "11 payloads, 0 executed"


def test_every_test_that_the_page_names_exists():
    rows = promised.promises()
    page = promised.PAGE.read_text(encoding="utf-8")
    promised_part = page[: page.index("## What is not promised")]
    assert len(rows) == promised_part.count("\n### ")  # every section names its tests
    assert not [test for test in re.findall(r"`(tests/[^`]+)`", page) if not promised.exists(test)]
    assert not promised.exists("tests/cli/test_commands.py::test_nothing") and not promised.exists(
        "tests/nowhere.py"
    )


def test_proof_of_the_tests_runs_every_case_of_each_selection(tmp_path, monkeypatch):
    called = {}

    def run(command, env, **named):
        called.update(words=command, every=env["EVERY_CASE"])
        case = '<testcase file="tests/backends/cuda/test_kernels.py" name="test_a[1]"><failure/></testcase>'
        (tmp_path / "report.xml").write_text(f"<testsuite>{case}</testsuite>")

    monkeypatch.setattr(promised.subprocess, "run", run)
    *_, last = promised.prove(Settings(tmp_path, say=lambda line: None))
    assert called["every"] == "1" and last.holds is False and last.details == ["test_a[1]"]
    for name in ("backends/cuda/test_kernels", "cli/test_mpi", "test_docs", "test_gradients"):
        assert f"tests/{name}.py" in called["words"]
    assert "tests/nn/test_network.py" not in called["words"]


@pytest.mark.parametrize(("holds", "word"), [(True, "holds"), (False, "FAILS"), (None, "not run here")])
def test_outcome_of_a_figure_is_a_word(holds, word):
    assert Figure("", "", holds).outcome == word
