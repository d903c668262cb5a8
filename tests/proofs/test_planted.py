import ast

import pytest

from proofs import ROOT
from proofs.planted import FURTHER, NAMED, Bug


@pytest.mark.parametrize("bug", [*NAMED, *FURTHER], ids=lambda bug: bug.name)
def test_planted_bug_has_its_one_place_and_is_python(bug):
    ast.parse(bug.text(ROOT))


def test_planted_bugs_are_the_named_ones_and_at_least_forty():
    names = [bug.name for bug in (*NAMED, *FURTHER)]
    assert len(NAMED) == 19 and len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("old", ["x", "nowhere"])
def test_bug_without_its_one_place_is_refused(tmp_path, old):
    (tmp_path / "code.py").write_text("x = x\n")
    with pytest.raises(ValueError, match=r"in code\.py, not once"):
        Bug("a", "code.py", old, "y").text(tmp_path)
