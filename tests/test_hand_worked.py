"""Two 2-2-1 networks with every number worked out by hand.

A. relu, then identity; mean squared error; two rows.

    W₁ = |1  −1 |    b₁ = (0.5, 0.25)    W₂ = | 2|    b₂ = 0.5    η = 0.5
         |2  0.5|                             |−3|

    row      x        s₁ = x W₁ + b₁                                    a₁ = relu(s₁)   z = a₁ W₂ + b₂
      y 1     (1, 2)    (1 + 4 + 0.5, −1 + 1 + 0.25)  = (5.5, 0.25)       (5.5, 0.25)     11 − 0.75 + 0.5 =
      10.75  10
    2     (3, −1)   (3 − 2 + 0.5, −3 − 0.5 + 0.25) = (1.5, −3.25)     (1.5, 0)        3 − 0 + 0.5     = 3.5
     4

    loss = ((10.75 − 10)² + (3.5 − 4)²)/2 = (0.5625 + 0.25)/2 = 0.40625
    δ₂ = dz = (2/2)(z − y)               = (0.75, −0.5)
    dW₂ = a₁ᵀ δ₂ = (5.5·0.75 − 1.5·0.5, 0.25·0.75 − 0·0.5) = (3.375, 0.1875)        db₂ = 0.75 − 0.5 = 0.25
    da₁ = δ₂ W₂ᵀ: row 1 (1.5, −2.25), row 2 (−1, 1.5); relu′ is 1 but for row 2, unit 2, where s₁ = −3.25
    δ₁: row 1 (1.5, −2.25), row 2 (−1, 0)
    dW₁ = xᵀ δ₁ = |1·1.5 + 3·(−1)     1·(−2.25) + 3·0   | = |−1.5  −2.25|           db₁ = (0.5, −2.25)
                  |2·1.5 + (−1)(−1)   2·(−2.25) + (−1)·0|   |   4  −4.5 |
    dx = δ₁ W₁ᵀ: row 1 (1.5 + 2.25, 3 − 1.125) = (3.75, 1.875), row 2 (−1, −2)

    θ − η ∇θ: W₁ = |1 + 0.75  −1 + 1.125|   b₁ = (0.5 − 0.25, 0.25 + 1.125)   W₂ = | 2 − 1.6875 |   b₂ = 0.5 −
    0.125
                   |2 − 2     0.5 + 2.25|                                          |−3 − 0.09375|

    Every number is a multiple of 1/32 below 2²⁴, so float32 is exact too and there is no tolerance.

B. sigmoid, then identity; binary cross-entropy with logits; one row. With s = ±ln 3 the sigmoid is 3/4 and
1/4.

    W₁ = |ln 3  −2 ln 3|    b₁ = 0    W₂ = | 4|    b₂ = −1    x = (1, 1)    y = 1
         |   0     ln 3|                   |−8|

    s₁ = (ln 3, −ln 3)    a₁ = (3/4, 1/4)    z = 3 − 2 − 1 = 0    loss = ln 2    dz = σ(0) − 1 = −1/2
    dW₂ = (−3/8, −1/8)    db₂ = −1/2    da₁ = (−2, 4)    σ′ = 3/4·1/4 = 3/16    δ₁ = (−3/8, 3/4)
    dW₁ = both rows δ₁    db₁ = δ₁      dx = ((−3/8 − 3/2) ln 3, (3/4) ln 3)
"""

import numpy as np

from ffnn_gpu import SGD, Dense, Network, binary_cross_entropy_with_logits, mean_squared_error, relu, sigmoid
from ffnn_gpu.testing import assert_close, tolerance
from ffnn_gpu.training.fit import train_step

LN2, LN3 = 0.6931471805599453, 1.0986122886681098  # log 2, log 3


def network_with(backend, dtype, phi, **numbers):
    network = Network(2, [Dense(2, phi), Dense(1)], backend, dtype)
    network.params.assign({name: np.array(value, dtype) for name, value in numbers.items()})
    return network


def relu_network(backend, dtype):
    W1, W2 = {"0.W": [[1, -1], [2, 0.5]], "0.b": [0.5, 0.25]}, {"1.W": [[2], [-3]], "1.b": [0.5]}
    return network_with(backend, dtype, relu, **W1, **W2)


def sigmoid_network(backend, dtype):
    W1, W2 = {"0.W": [[LN3, -2 * LN3], [0, LN3]], "0.b": [0, 0]}, {"1.W": [[4], [-8]], "1.b": [-1]}
    return network_with(backend, dtype, sigmoid, **W1, **W2)


def gradients(network, loss, x, y):
    """Return (z, loss, all gradients) on the host."""
    backend = network.backend
    ws = network.workspace(len(x), input_gradient=True)
    z = network.forward(backend.asarray(np.array(x, network.dtype)), ws)
    found = {"z": np.array(backend.to_host(z))}
    found["loss"] = float(loss(backend, z, np.array(y, network.dtype), dz=ws.dz))
    found["dz"] = np.array(backend.to_host(ws.dz))
    found["dx"] = backend.to_host(network.backward(ws.dz, ws))
    return found | {
        slot.name: backend.to_host(slot.view(network.params.grad)) for slot in network.params.slots
    }


def test_relu_network_gives_the_hand_worked_numbers_exactly(backend, dtype):
    got = gradients(relu_network(backend, dtype), mean_squared_error, [[1, 2], [3, -1]], [[10], [4]])
    assert got["loss"] == 0.40625
    want = {
        "z": [[10.75], [3.5]],
        "dz": [[0.75], [-0.5]],
        "1.W": [[3.375], [0.1875]],
        "1.b": [0.25],
        "0.W": [[-1.5, -2.25], [4, -4.5]],
        "0.b": [0.5, -2.25],
        "dx": [[3.75, 1.875], [-1, -2]],
    }
    for name, value in want.items():
        assert got[name].tolist() == value, name


def test_one_sgd_step_gives_the_hand_worked_parameters_exactly(backend, dtype):
    network = relu_network(backend, dtype)
    x, y = (backend.asarray(np.array(rows, dtype)) for rows in ([[1, 2], [3, -1]], [[10], [4]]))
    value = train_step(network, mean_squared_error, SGD(lr=0.5), x, y, network.workspace(2))
    assert float(value) == 0.40625
    assert {name: array.tolist() for name, array in network.params.to_host().items()} == {
        "0.W": [[1.75, 0.125], [0, 2.75]],
        "0.b": [0.25, 1.375],
        "1.W": [[0.3125], [-3.09375]],
        "1.b": [0.375],
    }


def test_sigmoid_network_gives_the_hand_worked_numbers(backend, dtype):
    got = gradients(sigmoid_network(backend, dtype), binary_cross_entropy_with_logits, [[1, 1]], [[1]])
    relative = tolerance("network", dtype, K=2, L=2)
    want = {
        "dz": [[-0.5]],
        "1.W": [[-0.375], [-0.125]],
        "1.b": [-0.5],
        "0.W": [[-0.375, 0.75], [-0.375, 0.75]],
        "0.b": [-0.375, 0.75],
        "dx": [[-2.0598980412527058, 0.8239592165010823]],  # −15/8 ln 3, 3/4 ln 3
    }
    assert_close(
        got["z"], np.zeros((1, 1)), relative, "z", scale=6
    )  # 3 − 2 − 1 cancels: relative to Σ|terms|
    assert abs(got["loss"] - LN2) <= relative * LN2
    for name, value in want.items():
        assert_close(got[name], np.array(value), relative, name)
