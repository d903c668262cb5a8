"""Run the examples as they stand, where warnings are errors."""

import re
from pathlib import Path

import pytest

from tests.distributed.test_mpi import MISSING, MPIEXEC
from tests.in_process import printed_by, printed_by_process

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed(name: str, folder: Path) -> str:
    """Run an example in an empty folder and return what it prints."""
    return printed_by(EXAMPLES / name, folder)


def test_comparison_with_scikit_learn_finds_one_network(tmp_path: Path) -> None:
    text = printed("compare_with_scikit_learn.py", tmp_path)
    accuracies = re.findall(r"s  accuracy ([\d.]+)", text)
    assert len(accuracies) == 2 and accuracies[0] == accuracies[1] and float(accuracies[0]) > 0.9
    assert float(re.search(r"probability: (\S+)", text)[1]) < 1e-9


def test_grid_search_on_a_table_finds_balanced_weights(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    text = printed("grid_search_on_a_table.py", tmp_path)
    assert "'class_weight': 'balanced'" in text
    assert float(re.search(r"on the test set: ([\d.]+)", text)[1]) > 0.8


def test_images_in_idx_files_are_classified(tmp_path: Path) -> None:
    text = printed("mnist_from_idx_files.py", tmp_path)
    assert "1497 images of 64 pixels" in text
    assert float(re.search(r"on 300 others: ([\d.]+)", text)[1]) > 0.85
    assert re.search(r"a (\d), taken for a (?!\1)\d:\n([ .:oO@]{8}\n){8}", text + "\n")


def test_messy_table_gives_the_same_probabilities_in_onnx_runtime(tmp_path: Path) -> None:
    for needed in ("pandas", "duckdb", "onnx", "onnxruntime"):
        pytest.importorskip(needed)
    text = printed("messy_table_to_onnx.py", tmp_path)
    assert "reads: weight, sent, zip, express" in text and "'parcel'" in text
    assert float(re.search(r"test rows: ([\d.]+)", text)[1]) > 0.85
    assert float(re.search(r"to ONNX Runtime: (\S+)", text)[1]) < 1e-6


def test_custom_layer_is_proved_and_learns(tmp_path: Path) -> None:
    text = printed("custom_layer.py", tmp_path)
    assert "slope of the loss" in text and "computes the same" in text
    before, after = map(float, re.search(r"epochs: ([\d.]+) → ([\d.]+)", text).groups())
    assert after < before / 8


def test_classic_networks_agree_with_their_second_opinion_and_learn(tmp_path: Path) -> None:
    text = printed("classic_networks.py", tmp_path)
    losses = [(float(a), float(b)) for a, b in re.findall(r"loss ([\d.]+) → ([\d.]+)", text)]
    assert len(losses) == 3 and all(after < before / 50 for before, after in losses)
    assert len(re.findall(r"‖d[Wb][12]‖", text)) == 12
    assert float(re.search(r"other images: ([\d.]+)", text)[1]) > 0.88


def test_member_of_a_pack_equals_the_network_alone(tmp_path: Path) -> None:
    text = printed("pack_and_its_members.py", tmp_path)
    assert float(re.search(r"differ by at most (\S+)", text)[1]) < 1e-5
    members, together = (
        float(re.search(rf"{words} ([\d.]+)", text)[1]) for words in ("\\(mean", "prediction:")
    )
    assert 1 < together < members < 2


def test_every_example_is_listed_and_has_cells() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f"| [{example.name}]({example.name}) |" in listed
        assert "\n# %%" in example.read_text(encoding="utf-8")


@pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed: pip install mpi4py mpich")
def test_two_ranks_print_the_losses_of_one_process(tmp_path: Path) -> None:
    alone = printed("two_ranks.py", tmp_path)
    assert len(re.findall(r"loss \d\.\d{12}", alone)) == 3
    words, launcher = ["-m", "mpi4py", str(EXAMPLES / "two_ranks.py")], (str(MPIEXEC), "-n", "2")
    assert printed_by_process(words, tmp_path, launcher) == alone
