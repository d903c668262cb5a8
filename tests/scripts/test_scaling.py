import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def scaling(monkeypatch):
    """Return the script with a short table of small sizes."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    sys.modules.pop("scaling", None)
    import scaling

    for name, value in {
        "WIDTHS": (8,),
        "DEPTHS": (1, 3),
        "BATCHES": (1, 16),
        "ROWS": (500, 10_000),
        "SECONDS": 0.0,
    }.items():
        monkeypatch.setattr(scaling, name, value)
    monkeypatch.setattr(scaling.launcher, "machine", lambda job: {"processor": "A"})
    return scaling


def test_table_has_a_line_for_each_size_and_is_written(scaling, tmp_path, capsys):
    assert scaling.main(["--largest", "700", "--json", str(tmp_path / "found.json")]) == 0
    result = json.loads((tmp_path / "found.json").read_text())
    found = result["lines"]
    assert (result["schema"], result["machine"]) == (1, {"processor": "A"})
    assert [(line["what"], line["size"]) for line in found] == [
        ("width", 8),
        ("hidden layers", 1),
        ("hidden layers", 3),
        ("batch", 1),
        ("batch", 16),
        ("rows in a file", 500),
        ("rows in a file", 700),
    ]
    assert all(line["us"] > 0 and line["gflops"] > 0 for line in found)
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def test_rows_lie_in_a_file_and_are_all_there(scaling, tmp_path):
    x, y = scaling.rows_of(tmp_path, 70_000, 3)
    assert (
        isinstance(x, np.memmap)
        and x.shape == (70_000, 3)
        and y.shape == (70_000,)
        and (np.asarray(x[-5:]) > 0).all()
    )
