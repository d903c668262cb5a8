"""Operations of a pack: each member's own arguments, shared ones, and what is returned."""

import numpy as np

from ffnn_gpu.backends.reference.members import FlatPack, Members, PerMember, member_of, stacked
from ffnn_gpu.nn.activations import identity

R, B, I, O = 3, 5, 4, 2
RNG = np.random.default_rng(0)


def made(backend, *shape):
    return backend.asarray(RNG.normal(size=shape))


def test_members_have_the_shape_of_one(backend):
    W = Members(made(backend, R, I, O))
    assert (W.shape, W.ndim, len(W), W.dtype) == ((I, O), 2, I, np.float64)
    assert W.T.shape == (O, I) and len(W.T) == O and W.T.T.shape == (I, O)
    assert stacked(W).shape == (R, I, O) and stacked(3) == 3 == member_of(3, 1)
    host = backend.to_host
    assert (host(W.T.of(1)) == host(W.of(1)).T).all() and member_of(W, 2).shape == (I, O)


def test_operation_reads_own_and_shared_arguments_and_returns_its_output(backend):
    x, W, b, out = (made(backend, *shape) for shape in ((B, I), (R, I, O), (R, O), (R, B, O)))
    operations, a = backend.pack(R), Members(out)
    assert operations.affine(x, Members(W), Members(b), identity, out=a) is a
    host = backend.to_host
    for r in range(R):
        np.testing.assert_allclose(host(out)[r], host(x) @ host(W)[r] + host(b)[r], rtol=1e-13)
    assert operations.name == backend.name and operations.batch_rows(7) == 7


def test_blocks_of_one_vector_are_arrays_of_the_members(backend):
    theta = backend.zeros((R * 64,), np.float64)
    W = Members(theta.reshape(R, 64)[:, 8 : 8 + I * O].reshape(R, I, O))
    x, delta = made(backend, B, I), Members(made(backend, R, B, O))
    backend.pack(R).affine_gradients(x, delta, dW=W, db=None)
    for r in range(R):
        found = backend.to_host(theta)[r * 64 + 8 :][: I * O].reshape(I, O)
        np.testing.assert_allclose(found, backend.to_host(x).T @ backend.to_host(delta.of(r)), rtol=1e-13)


def test_numbers_of_the_members_are_a_vector(backend):
    grads = Members(made(backend, R, 6))
    squares = backend.pack(R).squared_norm(grads)
    assert squares.shape == (R,)
    np.testing.assert_allclose(backend.to_host(squares), (backend.to_host(grads.stacked) ** 2).sum(axis=1))


def test_each_member_has_its_own_value(backend):
    out, step = Members(backend.empty((R, B, 8), np.float64)), backend.zeros((1,), np.int64)
    seeds, rates = PerMember((1, 2, 1)), PerMember((0.5, 0.5, 0.0))
    backend.pack(R).dropout_mask(rates, seeds, step, 0, 0, out)
    first, second, third = backend.to_host(out.stacked)
    assert (first != second).any() and set(np.unique(first)) == {0.0, 2.0} and (third == 1).all()


def test_norm_of_each_member_bounds_its_own_gradient(backend):
    grad, control = backend.asarray(np.repeat([1.0, 2.0, 0.1], 4)), Members(backend.zeros((R, 2), np.float64))
    FlatPack(backend, R).gradient_factor(grad, 1.0, control, None)
    np.testing.assert_allclose(backend.to_host(control.stacked), [[0.5, 0], [0.25, 0], [1, 0]])
