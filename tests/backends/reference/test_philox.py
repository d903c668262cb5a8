import numpy as np
import pytest

from ffnn_gpu.backends.reference.philox import dropout_bits, philox4x32

KNOWN_ANSWERS = [  # Random123, kat_vectors, philox4x32-10: counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def bits(backend, shape=(8, 10), seed=1, step=0, layer=0, row=0):
    step = backend.asarray(np.array([step], np.int64))
    return backend.to_host(dropout_bits(backend.xp, shape, seed, step, layer, row))


def mask(backend, shape, rate, dtype="float32", seed=1, step=0, layer=0, row=0):
    out = backend.empty(shape, np.dtype(dtype))
    backend.dropout_mask(rate, seed, backend.asarray(np.array([step], np.int64)), layer, row, out=out)
    return backend.to_host(out)


@pytest.mark.parametrize(("counter", "key", "want"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(backend, counter, key, want):
    counter = tuple(backend.asarray(np.array([word], np.uint64)) for word in words(counter))
    got = philox4x32(backend.xp, counter, tuple(words(key)))
    assert [int(word[0]) for word in got] == words(want)


def test_bits_are_the_words_of_the_documented_counter_under_the_seed(backend):
    key = words(KNOWN_ANSWERS[2][1])
    quad, row, step, layer = 3, 5, 7, 11
    seed = (key[1] << 32) | key[0]
    got = bits(backend, (6, 16), seed, step, layer)[row, 4 * quad : 4 * quad + 4]
    lone = philox4x32(np, tuple(np.array([word], np.uint64) for word in (quad, row, step, layer)), tuple(key))
    assert got.tolist() == [int(word[0]) for word in lone]
    assert got.dtype == np.uint32


def test_first_four_bits_under_seed_zero_are_the_first_known_answer(backend):
    assert bits(backend, (1, 4), seed=0).tolist() == [words(KNOWN_ANSWERS[0][2])]


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 10])
def test_part_of_a_batch_draws_the_bits_of_its_rows(backend, columns):
    whole = bits(backend, (13, columns))
    for first, last in ((0, 4), (4, 12), (12, 13)):
        np.testing.assert_array_equal(bits(backend, (last - first, columns), row=first), whole[first:last])


def test_bits_of_a_column_do_not_depend_on_the_width(backend):
    np.testing.assert_array_equal(bits(backend, (5, 3)), bits(backend, (5, 17))[:, :3])


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": 1 + 2**32}, {"step": 1}, {"layer": 1}, {"row": 8}])
def test_bits_differ_between_seeds_steps_layers_and_rows(backend, other):
    here, there = bits(backend), bits(backend, **other)
    assert (here != there).all()  # 80 words, each equal by chance with probability 2⁻³²


def test_mask_is_the_same_when_drawn_again(backend):
    drawn = [mask(backend, (6, 5), 0.5, seed=3, step=4, layer=2) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_mask_drops_its_rate_and_scales_exactly(backend, dtype, rate):
    drawn = mask(backend, (400, 250), rate, dtype)
    assert drawn.dtype == dtype
    assert set(np.unique(drawn)) == {0.0, np.dtype(dtype).type(1 / (1 - rate))}
    n, dropped = drawn.size, np.count_nonzero(drawn == 0)
    assert abs(dropped - n * rate) < 5 * (n * rate * (1 - rate)) ** 0.5  # 5 σ of the binomial


def test_mask_of_rate_zero_is_one_everywhere(backend, dtype):
    assert (mask(backend, (50, 7), 0.0, dtype) == 1).all()


def test_mask_drops_neighbours_independently(backend):
    on = mask(backend, (500, 200), 0.5) > 0
    for neighbours in (on[:, 1:] == on[:, :-1], on[1:] == on[:-1], on[:, 4:] == on[:, :-4]):
        n = neighbours.size
        assert abs(neighbours.sum() - n / 2) < 5 * n**0.5 / 2  # 5 σ
