"""A seed gives these stored numbers in every version of this package, on every machine.

They change only if NumPy changes its random streams, which it would announce (NEP 19).
"""

import numpy as np
import pytest

from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.data.splits import train_test_split
from ffnn_gpu.nn.activations import relu, selu, tanh
from ffnn_gpu.nn.initializers import INITIALIZERS
from ffnn_gpu.nn.layers import Dense, Dropout
from ffnn_gpu.nn.network import Network

SEED = 7
ROUNDING = 1e-12  # logarithms and QR of another library; another use of a seed changes every digit
START = {
    "0.W": [[-0.5144483061708015, 1.1962365947747802], [-0.35868092894735715, 1.7443284177106386],
            [0.7621685615792416, 0.5512926550652607]],
    "1.W": [[0.9913001529127887, 0.6034593025233996], [2.161132150287965, -0.04032171296376985]],
    "2.W": [[0.3234410006213151, -0.03238648475560457], [-1.1408156072816094, 0.43633082436588744]],
    "0.b": [0, 0], "1.b": [0, 0], "2.b": [0, 0],
}  # fmt: skip
FAN_OF_TWO_NORMAL = [0.0008698497809753275, 0.21124499542145916, -0.193844736506561, -0.629743528454665]
FAN_OF_TWO_UNIFORM = [0.3064200623168074, 0.972971131166894, 0.6752892704877018, -0.6731021695086118]
DRAWN = {  # (2, 2), row after row
    "zeros": [0, 0, 0, 0],
    "normal": [1.2301533574825743e-05, 0.002987455375084699, -0.002741378553622176, -0.008905918387572742],
    "uniform": [0.012509546660466692, 0.039721380096957554, 0.02756856902451936, -0.027479281000940815],
    "orthogonal": [0.004487307929991413, 0.9999899319830882, -0.9999899319830882, 0.004487307929991571],
    "glorot_normal": FAN_OF_TWO_NORMAL, "lecun_normal": FAN_OF_TWO_NORMAL,
    "glorot_uniform": FAN_OF_TWO_UNIFORM, "lecun_uniform": FAN_OF_TWO_UNIFORM,
    "he_normal": [0.0012301533574825742, 0.2987455375084699, -0.2741378553622176, -0.8905918387572742],
    "he_uniform": [0.43334340791163806, 1.3759889694937129, 0.9550032448487413, -0.9519102169818329],
}  # fmt: skip


def test_network_starts_with_the_stored_numbers():
    numbers = Network(
        3, [Dense(2, relu), Dense(2, selu), Dense(2, tanh)], "numpy", "float64", SEED
    ).params.to_host()
    assert numbers.keys() == START.keys()
    for name, value in numbers.items():
        np.testing.assert_allclose(value, START[name], rtol=ROUNDING, err_msg=name)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer_draws_the_stored_numbers(name):
    values = INITIALIZERS[name](np.random.default_rng(SEED), (2, 2))
    np.testing.assert_allclose(values.ravel(), DRAWN[name], rtol=ROUNDING, atol=1e-15)


def test_rows_of_an_epoch_have_the_stored_order():
    assert Order(2, seed=SEED).permutation(8, epoch=3).tolist() == [3, 5, 0, 4, 2, 7, 1, 6]


@pytest.mark.parametrize(
    ("rows", "stratify", "train", "test"),
    [
        (10, False, [1, 3, 6, 2, 4, 5, 9], [8, 0, 7]),
        ([0] * 7 + [1] * 3, True, [7, 3, 6, 2, 4, 5, 9], [8, 0, 1]),
    ],
)
def test_split_equals_the_stored_one(rows, stratify, train, test):
    assert [part.tolist() for part in train_test_split(rows, 0.3, SEED, stratify)] == [train, test]


@pytest.mark.parametrize(("step", "kept"), [(0, ["11000011", "01001010"]), (5, ["01011101", "10111110"])])
def test_dropout_mask_equals_the_stored_one(step, kept):
    network = Network(4, [Dropout(0.5), Dense(4), Dropout(0.5)], "numpy", seed=SEED)
    network.params.step[0] = step
    ws = network.workspace(2)
    network.forward(np.ones((2, 4), np.float32), ws)
    assert ["".join(str(int(m > 0)) for m in ws.buffers[k].mask.ravel()) for k in (0, 2)] == kept
