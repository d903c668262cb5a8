"""Run ONNX files with onnxruntime, and compare what they return with what a model returns."""

import numpy as np
import pandas as pd
import pytest

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no ONNX file is run")
pytest.importorskip("onnx", reason="onnx is not installed: no ONNX file is written")


def session(content):
    """Return a session of onnxruntime on the CPU for the bytes or the path of a file."""
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def inputs_of(frame, run):
    """Return the columns of a frame in the types of the inputs, as docs/export.md shows."""
    inputs = {}
    for entry in run.get_inputs():
        column = frame[entry.name]
        if entry.type == "tensor(string)":
            cells = column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)
        elif column.dtype.kind == "M":
            cells = ((column - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy(float)
        else:
            cells = column.to_numpy(float)
        inputs[entry.name] = cells.reshape(-1, 1)
    return inputs


def assert_close(got, want, tolerance=1e-6):
    """Raise if numbers differ by more than the tolerance times the largest of them."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def assert_answers(run, inputs, answers, probabilities, tolerance=1e-6):
    """Raise unless the file returns these answers and, unless None, these probabilities."""
    outputs = run.run(None, inputs)
    if probabilities is None:
        assert_close(outputs[0], answers, tolerance)
        return
    np.testing.assert_array_equal(outputs[0], answers)
    assert_close(outputs[1], probabilities, tolerance)
