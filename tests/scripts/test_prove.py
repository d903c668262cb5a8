"""scripts/prove.py prints a table, sets the exit code, and counts an exception as a failed proof."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from proofs import Figure, promised

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove.py"


@pytest.fixture
def prove(monkeypatch):
    """The script as a module; its change of sys.path is undone afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("prove", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def breaks(settings):
    raise ZeroDivisionError("division by zero")


def hangs(settings):
    raise subprocess.TimeoutExpired("python", 300)


@pytest.mark.parametrize(
    ("proof", "code", "said"),
    [
        (lambda settings: [Figure("p", "3 of 3", True)], 0, "p" + 77 * " " + "3 of 3  holds"),
        (lambda settings: [Figure("p", "no mount", None)], 0, "not run here"),
        (lambda settings: [Figure("p", "2 of 3", False, ["why"]), Figure("q", "1", True)], 1, "\n    why\n"),
        (breaks, 1, "ZeroDivisionError: division by zero"),
        (hangs, 2, "no verdict: no end after 300 s  no verdict"),
        (lambda settings: [Figure("p", "no verdict of 1", None), Figure("q", "1", False)], 1, "FAILS"),
    ],
)
def test_command_prints_the_table_and_fails_where_a_promise_does(
    prove, monkeypatch, capsys, tmp_path, proof, code, said
):
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(prove=proof))
    monkeypatch.setattr(prove, "PROOFS", {"it": "stand_in"})
    assert prove.main(["--json", str(tmp_path / "table.json"), "--seed", "4"]) == code
    assert said in capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["settings"]["seed"] == 4 and len(table["figures"]) >= 1


def test_unknown_proof_is_refused_with_those_there_are(prove, capsys):
    with pytest.raises(SystemExit):
        prove.main(["--only", "kills,magic"])
    assert "unknown proof magic; choose from tests, bugs," in capsys.readouterr().err


def test_page_and_command_know_the_same_proofs(prove):
    counted = re.findall(r"^- counted by: (.+)$", promised.PAGE.read_text(encoding="utf-8"), re.M)
    assert len(counted) == len(promised.promises())
    assert {name for row in counted for name in row.split(", ")} == set(prove.PROOFS)
    assert all(importlib.util.find_spec(module) for module in prove.PROOFS.values())
