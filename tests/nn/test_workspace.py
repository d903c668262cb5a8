import numpy as np
import pytest

from ffnn_gpu import mean_squared_error
from ffnn_gpu.errors import ShapeError, WorkspaceError
from ffnn_gpu.nn.activations import gelu, relu
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.workspace import Workspace

LAYERS = [Dense(6, gelu), Dropout(0.5), Residual([LayerNorm(), Dense(6, relu)]), BatchNorm(), Dense(2)]


def make(backend, dtype="float32", layers=LAYERS):
    return Network(3, layers, backend, dtype)


def rows(network, n, seed=0):
    return network.backend.asarray(np.random.default_rng(seed).normal(size=(n, 3)), network.dtype)


def arrays(buffers):
    """Return every array of a list of buffers, including those inside residuals."""
    for buf in buffers:
        for name, value in vars(buf).items():
            if name == "layers":
                yield from arrays(value)
            elif name not in ("x", "stream", "number") and value is not None:
                yield value


def gradient(network, x, y, ws):
    z = network.forward(x, ws)
    mean_squared_error(network.backend, z, y, dz=ws.dz)
    network.backward(ws.dz, ws)
    return np.array(network.backend.to_host(network.params.grad))


def test_first_is_a_view_of_the_same_memory(backend):
    ws = make(backend).workspace(8)
    part = ws.first(3)
    assert part.B == 3 and part.training and part.dz.shape == (3, 2) and part.nbytes == ws.nbytes
    for whole, small in zip(arrays(ws.buffers), arrays(part.buffers), strict=True):
        assert backend.xp.shares_memory(whole, small)
        assert small.flags.c_contiguous and small.shape[1:] == whole.shape[1:]
    assert backend.xp.shares_memory(ws.dz, part.dz)


def test_first_is_created_once_per_size(backend):
    ws = make(backend).workspace(8)
    assert (
        ws.first(8) is ws
        and ws.first(3) is ws.first(3) is ws.first(5).first(3)
        and ws.first(3).first(8) is ws
    )


@pytest.mark.parametrize("n", [-1, 9])
def test_first_rejects_more_rows_than_the_workspace_has(backend, n):
    with pytest.raises(ShapeError, match=f"holds 8 rows, not {n}"):
        make(backend).workspace(8).first(n)


def test_partial_workspace_gives_the_gradient_of_a_workspace_of_its_size(backend, dtype):
    network = make(backend, dtype)
    x, y = rows(network, 5), rows(network, 5, seed=1)[:, :2]
    big = network.workspace(11)
    # Another pass leaves its values in all rows.
    gradient(network, rows(network, 11, seed=2), rows(network, 11, seed=3)[:, :2], big)
    got, want = gradient(network, x, y, big.first(5)), gradient(network, x, y, network.workspace(5))
    np.testing.assert_array_equal(got, want)


def test_used_workspace_gives_the_gradient_of_a_fresh_one(backend, dtype):
    network = make(backend, dtype)
    x, y, used = rows(network, 5), rows(network, 5, seed=1)[:, :2], network.workspace(5)
    for seed in (2, 3):
        gradient(network, rows(network, 5, seed=seed), y, used)
    np.testing.assert_array_equal(
        gradient(network, x, y, used), gradient(network, x, y, network.workspace(5))
    )


def test_forward_requires_a_workspace_of_its_rows(backend):
    network = make(backend)
    with pytest.raises(ShapeError, match=r"x has 3 rows and the workspace 4; pass workspace\.first\(3\)"):
        network.forward(rows(network, 3), network.workspace(4))
    with pytest.raises(
        ShapeError, match=r"x has 5 rows and the workspace 4; make one with network\.workspace\(5\)"
    ):
        network.forward(rows(network, 5), network.workspace(4))


def test_workspace_of_another_network_raises(backend):
    network, other = make(backend), make(backend)
    with pytest.raises(WorkspaceError, match="another network"):
        network.forward(rows(network, 4), other.workspace(4))


def test_backward_without_a_pending_forward_raises(backend):
    network = make(backend)
    ws = network.workspace(4)
    with pytest.raises(WorkspaceError, match="no forward pass"):
        network.backward(ws.dz, ws)
    network.forward(rows(network, 4), ws)
    network.backward(backend.zeros((4, 2), network.dtype), ws)
    with pytest.raises(WorkspaceError, match="no forward pass"):
        network.backward(backend.zeros((4, 2), network.dtype), ws)


def test_workspace_overwritten_by_a_later_part_is_stale(backend):
    network = make(backend)
    ws = network.workspace(4)
    network.forward(rows(network, 4), ws)
    network.forward(rows(network, 2), ws.first(2))
    with pytest.raises(WorkspaceError, match="no forward pass"):
        network.backward(ws.dz, ws)
    network.backward(backend.zeros((2, 2), network.dtype), ws.first(2))


def test_backward_in_an_inference_workspace_raises(backend):
    network = make(backend)
    ws = network.workspace(4, training=False)
    assert ws.dz is None and not ws.training
    network.forward(rows(network, 4), ws)
    with pytest.raises(WorkspaceError, match="training=False"):
        network.backward(backend.zeros((4, 2), network.dtype), ws)
    for buf in ws.buffers:
        kept = {name for name, value in vars(buf).items() if value is not None} - {
            "stream",
            "number",
            "x",
            "layers",
        }
        assert kept == {"a"}


def test_backward_rejects_a_gradient_of_another_shape(backend):
    network = make(backend)
    ws = network.workspace(4)
    network.forward(rows(network, 4), ws)
    with pytest.raises(ShapeError, match=r"dz has shape \(4, 3\); this pass has outputs \(4, 2\)"):
        network.backward(backend.zeros((4, 3), network.dtype), ws)


@pytest.mark.parametrize("layers", [LAYERS, [Dense(4), Dense(2)], []], ids=["all", "dense", "none"])
def test_nbytes_is_the_size_of_all_buffers(backend, dtype, layers):
    network = make(backend, dtype, layers)
    for training in (True, False):
        ws = network.workspace(7, training=training)
        held = sum(array.nbytes for array in arrays(ws.buffers)) + (ws.dz.nbytes if training else 0)
        assert ws.nbytes == held


def test_first_dense_layer_has_no_dx_unless_requested(backend):
    network = make(backend, layers=[Dense(4), Dense(2)])
    without, with_dx = network.workspace(5), network.workspace(5, input_gradient=True)
    assert without.buffers[0].dx is None and without.buffers[1].dx.shape == (5, 4)
    assert with_dx.buffers[0].dx.shape == (5, 3)
    assert with_dx.nbytes - without.nbytes == 5 * 3 * 4


def test_pre_activation_is_stored_only_if_the_activation_needs_it(backend):
    network = make(backend, layers=[Dense(4, gelu), Dense(4, relu)])
    assert network.workspace(2).buffers[0].s is not None and network.workspace(2).buffers[1].s is None


@pytest.mark.parametrize("B", [-1, 1.5, True, "4"])
def test_number_of_rows_must_be_a_whole_number(backend, B):
    with pytest.raises(ShapeError, match="number of rows"):
        make(backend).workspace(B)


def test_workspaces_and_their_parts_may_have_zero_rows(backend):
    network = make(backend)
    for ws in (network.workspace(0), network.workspace(4).first(0)):
        assert ws.B == 0 and network.forward(rows(network, 0), ws).shape == (0, 2)


def test_matrices_have_the_compute_type_and_vectors_the_type_of_theta(backend):
    buf = make(backend, "bfloat16", [LayerNorm()]).workspace(4).buffers[0]
    assert (buf.a.dtype, buf.xhat.dtype, buf.rstd.dtype) == ("bfloat16", "bfloat16", "float32")


def test_second_pass_at_the_same_time_raises_and_does_not_wait(backend):
    network = make(backend)
    ws = network.workspace(4)
    ws.begin_forward(network.params, 4)
    with pytest.raises(WorkspaceError, match="another thread is in a pass"):
        network.forward(rows(network, 4), ws)
    ws.end_pass()
    network.forward(rows(network, 4), ws)


def test_two_workspaces_do_not_disturb_each_other(backend):
    network = make(backend, layers=[Dense(4, relu), Dense(2)])
    x, y = rows(network, 4), rows(network, 4, seed=1)[:, :2]
    want = gradient(network, x, y, network.workspace(4))
    first, second = network.workspace(4), network.workspace(4)
    z = network.forward(x, first)
    network.forward(rows(network, 4, seed=5), second)
    mean_squared_error(backend, z, y, dz=first.dz)
    network.backward(first.dz, first)
    np.testing.assert_array_equal(backend.to_host(network.params.grad), want)


def test_released_workspace_and_its_parts_hold_no_memory(backend):
    ws = make(backend).workspace(8)
    part = ws.first(3)
    part.release()
    assert vars(ws) == vars(part) == {}


def test_prediction_of_many_rows_frees_its_memory_and_of_few_rows_keeps_it(backend, monkeypatch):
    released = []
    monkeypatch.setattr(Workspace, "release", lambda ws: released.append(ws.B))
    network = make(backend)
    network.predict(rows(network, 100))
    assert released == [100]
    network.predict(rows(network, 3))
    assert released == [100]
