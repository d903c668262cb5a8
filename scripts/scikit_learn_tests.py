"""Run scikit-learn's own tests of its multilayer perceptron on the estimators of this package.

    python3 scripts/scikit_learn_tests.py [arguments of pytest]

The tests are read from the installed scikit-learn, with the import of the two classes replaced. Tests that
read private names of scikit-learn's classes are left out, and listed with these names.
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest
import sklearn.neural_network

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"
OURS = "from ffnn_gpu.estimators import MLPClassifier, MLPRegressor"
PRIVATE = re.compile(r"\b(?:mlp|clf|model)\.(_\w+)")


def tests() -> str:
    """Return the source of scikit-learn's tests, for our classes."""
    path = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"
    source = path.read_text(encoding="utf-8")
    if source.count(IMPORT) != 1:
        raise SystemExit(f"{path} does not contain the line {IMPORT!r}; this scikit-learn is not known")
    return source.replace(IMPORT, OURS)


def private(source: str) -> dict[str, list[str]]:
    """Return {test: private names that it reads}, without those that our classes have too."""
    found = {}
    for body in re.split(r"^(?=def )", source, flags=re.M):
        name = re.match(r"def (test_\w+)", body)
        read = sorted({*PRIVATE.findall(re.sub(r"mlp\._\w+ = ", "", body))} - {"_no_improvement_count"})
        if name and read:
            found[name[1]] = read
    return found


def main() -> int:
    source = tests()
    skipped = private(source)
    for name, read in skipped.items():
        print(f"left out: {name} reads {', '.join(read)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "test_mlp_swapped.py")
        path.write_text(source, encoding="utf-8")
        (path.parent / "conftest.py").write_text(
            "import pytest\n\n@pytest.fixture\ndef global_random_seed():\n    return 42\n", encoding="utf-8"
        )
        left_out = [f"--deselect={path.name}::{name}" for name in skipped]
        settings = ["-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "-c", "/dev/null"]
        return int(pytest.main([*settings, *left_out, str(path), *sys.argv[1:]]))


if __name__ == "__main__":
    raise SystemExit(main())
