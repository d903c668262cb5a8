"""Import Python files that were exported."""

import importlib.util

import pytest

from ffnn_gpu import export_numpy


@pytest.fixture
def imported(tmp_path):
    """Return a function that imports the source of a module."""

    def load(source, **names):
        (tmp_path / "exported.py").write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("exported", tmp_path / "exported.py")
        module = importlib.util.module_from_spec(spec)
        vars(module).update(names)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def loaded(imported, tmp_path):
    """Return a function that exports a model as a Python file and imports that."""

    def load(model):
        export_numpy(model, tmp_path / "model.py")
        return imported((tmp_path / "model.py").read_text(encoding="utf-8"))

    return load
