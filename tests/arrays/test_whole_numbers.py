"""Codes of classes and quantities are told apart by their values and frequencies."""

import numpy as np
import pytest

from ffnn_gpu.arrays.whole_numbers import are_codes

RNG = np.random.default_rng(0)


def numbers(frequencies, first=0):
    return np.repeat(np.arange(first, first + len(frequencies)), frequencies)


def normal(mean, deviation, n):
    return RNG.normal(mean, deviation, n).round()


CODES = {
    "MNIST": numbers([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
    "USPS": numbers([1553, 1269, 929, 824, 852, 716, 834, 792, 708, 821], 1),
    "covertype": numbers([211840, 283301, 35754, 2747, 9493, 17367, 20510], 1),
    "glass": np.repeat([1, 2, 3, 5, 6, 7], [70, 76, 17, 13, 9, 29]),
    "letters": RNG.integers(0, 26, 20_000),
    "a hundred equal classes": np.arange(65_000) % 100,
    "classes of random sizes": RNG.choice(40, 20_000, p=RNG.dirichlet(np.full(40, 3.0))),
    "stars": numbers([10, 20, 40, 70, 60], 1),
    "cylinders": np.repeat([4, 6, 8], [11, 7, 14]),
    "no and yes": np.array([0, 1, 1]),
    "classes numbered by frequency": numbers([812, 401, 233, 120, 64, 40, 22, 22, 13]),
    "the same from 1": numbers([95, 80, 61, 60, 44, 30, 12], 1),
    "thirty classes numbered by frequency": numbers(np.linspace(900, 12, 30).astype(int)),
}
QUANTITIES = {
    "quality of red wine": numbers([10, 53, 681, 638, 199, 18], 3),
    "quality of white wine": numbers([20, 163, 1457, 2198, 880, 175, 5], 3),
    "rings of abalones": RNG.gamma(9, 1.1, 4177).round().clip(1, 29),
    "ages": normal(40, 12, 10_000).clip(0, 99),
    "years": np.arange(3000) % 15 + 2000,
    "counts": RNG.poisson(3, 1000),
    "rare counts": RNG.poisson(1, 2000),
    "points from 1 to 10": normal(7, 2, 2000).clip(1, 10),
    "visits with a long tail": RNG.geometric(0.2, 400) - 1,
    "many values": np.arange(1000),
    # frequencies of R's data sets
    "visits to a doctor (AER DoctorVisits)": numbers([4141, 782, 174, 30, 24, 9, 12, 12, 5, 1]),
    "articles (pscl bioChemists)": np.repeat(
        [*range(13), 16, 19], [275, 246, 178, 84, 67, 27, 17, 12, 1, 2, 1, 1, 2, 1, 1]
    ),
    "parents and children (titanic parch)": numbers([678, 118, 80, 5, 4, 5, 1]),
}


@pytest.mark.parametrize("name", CODES)
def test_codes_of_classes_are_classes(name):
    assert are_codes(CODES[name])[0], are_codes(CODES[name])[1]


@pytest.mark.parametrize("name", QUANTITIES)
def test_quantities_are_no_classes(name):
    assert not are_codes(QUANTITIES[name])[0], are_codes(QUANTITIES[name])[1]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("kind", [np.int64, np.float32, np.uint8])
def test_answer_depends_on_no_type_and_no_order(kind, shape):
    for y in (CODES["USPS"], QUANTITIES["counts"]):
        assert are_codes(RNG.permutation(y).astype(kind).reshape(shape)) == are_codes(y)


def test_reason_is_given_where_there_is_a_choice():
    assert are_codes(QUANTITIES["quality of red wine"])[1] == "they begin at 3 and codes begin at 0 or 1"
    assert are_codes(CODES["stars"])[1] == "they have only 5 values"
    assert are_codes(CODES["no and yes"])[1] == are_codes(QUANTITIES["many values"])[1] == ""
