import numpy as np
import pytest

from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.nn.activations import relu
from ffnn_gpu.nn.layers import BatchNorm, Dense, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Parameters

LAYERS = [Dense(5, relu), BatchNorm(), Residual([Dense(7), Dense(5, bias=False)]), Dense(2)]
NAMES = ["0.W", "2.layers.0.W", "2.layers.1.W", "3.W", "0.b", "1.gain", "1.bias", "2.layers.0.b", "3.b"]
COUNT = 3 * 5 + 5 + 2 * 5 + 5 * 7 + 7 + 7 * 5 + 5 * 2 + 2


def parameters(backend, dtype):
    return Network(3, LAYERS, backend, dtype).params


def test_matrices_come_first_and_decay_stops_before_the_vectors(backend, dtype):
    params = parameters(backend, dtype)
    assert [slot.name for slot in params.slots] == NAMES
    assert [len(slot.shape) for slot in params.slots] == [2] * 4 + [1] * 5
    assert params.n_decayed == params.slots[4].start
    assert params.slots[3].start + params.slots[3].size <= params.n_decayed


def test_every_view_starts_on_a_256_byte_boundary(backend, dtype):
    params = parameters(backend, dtype)
    for slot in (*params.slots, *params.state_slots):
        assert slot.start * params.dtype.itemsize % 256 == 0
    if backend.name == "numpy":
        assert all(vector.ctypes.data % 256 == 0 for vector in (params.theta, params.grad, params.state))


def test_slots_are_immutable_values(backend):
    slots, again = (parameters(backend, "float32").slots for _ in range(2))
    assert slots == again and len({*slots, *again}) == len(NAMES)
    with pytest.raises(AttributeError):
        slots[0].start = 1


def test_views_share_the_vectors_memory(backend, dtype):
    params = parameters(backend, dtype)
    params.views[0].W[...] = 7
    params.views[2].layers[1].dW[...] = 9
    params.views[1].running_mean[...] = 3
    theta, grad = params.slots[0].view(params.theta), params.slots[2].view(params.grad)
    assert (backend.to_host(theta) == 7).all() and (backend.to_host(grad) == 9).all()
    assert dict(params.named())["1.running_mean"][0] == 3 and backend.to_host(params.state).max() == 3


def test_padding_is_zero_and_is_not_counted(backend, dtype):
    params = parameters(backend, dtype)
    inside = np.zeros(params.theta.shape, bool)
    for slot in params.slots:
        assert not inside[slot.start : slot.start + slot.size].any(), f"{slot.name} overlaps"
        inside[slot.start : slot.start + slot.size] = True
    assert params.count == COUNT == inside.sum()
    assert (backend.to_host(params.theta)[~inside] == 0).all() and (backend.to_host(params.grad) == 0).all()


def test_padding_has_the_smallest_possible_length(backend, dtype):
    params = parameters(backend, dtype)
    unit = 256 // params.dtype.itemsize
    for slots, vector in ((params.slots, params.theta), (params.state_slots, params.state)):
        ends = [*(slot.start for slot in slots[1:]), len(vector)]
        for slot, end in zip(slots, ends, strict=True):
            assert end - slot.start == -(-slot.size // unit) * unit


def test_only_float16_has_a_loss_scale_and_it_starts_at_65536(backend, dtype):
    assert (
        parameters(backend, dtype).loss_scale is None and parameters(backend, "bfloat16").loss_scale is None
    )
    assert backend.to_host(parameters(backend, "float16").loss_scale).tolist() == [65536, 0]


def test_updates_are_counted_from_zero_in_one_integer(backend, dtype):
    step = backend.to_host(parameters(backend, dtype).step)
    assert step.tolist() == [0] and step.dtype == np.int64


def test_running_statistics_are_state_and_have_no_gradient(backend, dtype):
    params = parameters(backend, dtype)
    assert [slot.name for slot in params.state_slots] == ["1.running_mean", "1.running_variance"]
    assert not hasattr(params.views[1], "drunning_mean")
    assert backend.to_host(params.views[1].running_variance).tolist() == [1] * 5


def test_to_host_copies_and_assign_restores_every_bit(backend, dtype):
    params, other = parameters(backend, dtype), Network(3, LAYERS, backend, dtype, seed=9).params
    numbers = params.to_host()
    assert list(numbers) == [*NAMES, "1.running_mean", "1.running_variance"]
    other.assign(numbers)
    for name, array in other.to_host().items():
        np.testing.assert_array_equal(array, numbers[name])
    numbers["0.W"][...] = 5
    assert not (params.to_host()["0.W"] == 5).any()


WRONG = {
    "0.b is missing": lambda arrays: arrays.pop("0.b"),
    r"0.W is float\d\d \(5, 3\); .* needs float\d\d \(3, 5\)": lambda arrays: arrays.update(
        {"0.W": arrays["0.W"].T}
    ),
    "3.b is float16": lambda arrays: arrays.update({"3.b": arrays["3.b"].astype(np.float16)}),
    "9.W does not belong": lambda arrays: arrays.update({"9.W": np.zeros(1)}),
}


@pytest.mark.parametrize("message", WRONG)
def test_assign_changes_nothing_if_anything_differs(backend, dtype, message):
    params = parameters(backend, dtype)
    before, arrays = params.to_host(), {name: array + 1 for name, array in params.to_host().items()}
    WRONG[message](arrays)
    with pytest.raises(IncompatibleCheckpointError, match=message):
        params.assign(arrays)
    for name, array in params.to_host().items():
        np.testing.assert_array_equal(array, before[name])


def test_layers_without_parameters_have_empty_vectors(backend):
    params = Parameters(backend, [{}, {}], [{}, {}], "float32")
    assert (params.count, params.n_decayed, params.theta.shape, params.slots) == (0, 0, (0,), [])


def test_only_vectors_have_no_decay_and_only_matrices_full_decay(backend):
    assert Parameters(backend, [{"gain": (3,)}], [{}], "float32").n_decayed == 0
    alone = Parameters(backend, [{"W": (3, 2)}], [{}], "float32")
    assert alone.n_decayed == len(alone.theta)
