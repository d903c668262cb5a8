"""TensorBoard finds in the event files what the history holds."""

import struct
import sys

import numpy as np
import pytest
from ffnn_gpu.callbacks import TensorBoard

from ffnn_gpu import Dense, Network, fit
from ffnn_gpu.errors import ConfigurationError

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X[:, :1] ** 2


def trained(folder, epochs=3, **settings):
    network = Network(3, [Dense(4, "tanh"), Dense(1)], "numpy")
    logs = TensorBoard(folder)
    return fit(
        network, "mean_squared_error", "adam", (X, Y), epochs=epochs, validation=0.25, callbacks=logs,
        verbose=0, **settings,
    )  # fmt: skip


def events(folder):
    """Yield the events of the files in a folder, oldest file first."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, start = path.read_bytes(), 0
        while start < len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", content, start)
            yield event_pb2.Event.FromString(content[start + 12 : start + 12 + length])
            start += 16 + length


def curves(folder):
    """Return column → {epoch: value} as TensorBoard shows them: a start at step n hides what was there."""
    found = {}
    for event in events(folder):
        if event.session_log.status == event.session_log.START and event.step:
            for points in found.values():
                for step in [step for step in points if step >= event.step]:
                    del points[step]
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def assert_curves(folder, history):
    found = curves(folder)
    assert found.keys() == set(history.columns) - {"epoch"}
    for name, points in found.items():
        assert [*points] == [int(epoch) for epoch in history["epoch"]], name
        np.testing.assert_allclose([*points.values()], history[name], rtol=1e-6)  # float32 in the file


def test_every_column_is_a_curve(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: no event file is written")
    history = trained(tmp_path / "logs")
    assert_curves(tmp_path / "logs", history)


def test_run_resumed_in_the_same_second_continues_the_curves(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: no event file is written")
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1.7e9)
    trained(tmp_path / "logs", checkpoint=tmp_path / "run")
    history = trained(tmp_path / "logs", epochs=5, checkpoint=tmp_path / "run", resume=True)
    assert len(history) == 5
    assert_curves(tmp_path / "logs", history)


def test_missing_package_is_named_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ffnn_gpu\[tensorboard\]"'):
        trained(tmp_path)
