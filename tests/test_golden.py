"""With PyTorch installed, generate the golden vectors again and compare them with the stored ones."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "golden" / "make_golden.py"
GROUPS = (
    "activations", "softmax", "losses", "optimizers", "schedules", "normalization", "embedding",
    "table_layers", "network", "state_dict",
)  # fmt: skip
# Relative, plus 1e-15 absolute: float64 on another processor rounds exp and sums differently.
REPEATED = 1e-12


@pytest.fixture
def generator():
    """Return make_golden.py as a module; skip without PyTorch."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    default = torch.get_default_dtype()
    spec = importlib.util.spec_from_file_location("make_golden", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)  # sets float64 while it generates vectors
        yield module
    finally:
        torch.set_default_dtype(default)


def assert_same(got, want, where):
    if isinstance(want, dict):
        assert got.keys() == want.keys(), where
        for name, value in want.items():
            assert_same(got[name], value, f"{where}.{name}")
    elif isinstance(want, list) and want and isinstance(want[0], (dict, list)):
        assert len(got) == len(want), where
        for k, value in enumerate(want):
            assert_same(got[k], value, f"{where}[{k}]")
    elif isinstance(want, str) or want is None:
        assert got == want, where
    else:
        np.testing.assert_allclose(got, want, rtol=REPEATED, atol=1e-15, err_msg=where)


@pytest.mark.parametrize("group", GROUPS)
def test_stored_vectors_equal_the_generators(golden, generator, group):
    stored = golden(group)
    assert stored.pop("made_by").startswith("PyTorch ")
    assert_same(generator.GROUPS[group](), stored, group)


def test_every_group_is_stored_and_small():
    files = {path.stem: path.stat().st_size for path in SCRIPT.parent.glob("*.json")}
    assert set(GROUPS) <= set(files)
    assert sum(files.values()) < 500_000
