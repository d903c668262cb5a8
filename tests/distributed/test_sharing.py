"""Rank 0's texts and arrays arrive on every rank with all their bits."""

import numpy as np
import pytest

from ffnn_gpu.distributed import sharing
from ffnn_gpu.distributed.sharing import shared_array, shared_text
from tests.distributed.threads import on_ranks

ARRAYS = {
    "numbers": np.arange(12.0).reshape(3, 4).T,
    "integers": np.array([2**63 - 1, -1]),
    "texts": np.array(["größe", "", "a"]),
    "nothing": np.empty((0, 3), np.float32),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_of_rank_zero_arrives_in_pieces(kind, monkeypatch):
    monkeypatch.setattr(sharing, "PIECE", 7)
    array = ARRAYS[kind]
    array.flags.writeable = False  # as a mapped file is
    found, _ = on_ranks(3, lambda ranks: shared_array(ranks, array if ranks.rank == 0 else None))
    for each in found:
        np.testing.assert_array_equal(each, array)
        assert each.dtype == array.dtype


def test_array_is_stored_where_a_rank_wants_it():
    places = [np.zeros((2, 2)) for _ in range(2)]
    ones = np.ones((2, 2))
    on_ranks(2, lambda ranks: shared_array(ranks, None if ranks.rank else ones, places[ranks.rank]))
    assert (places[1] == 1).all() and (places[0] == 0).all()


@pytest.mark.parametrize("text", ["", "größe\n", "x" * 1000])
def test_text_of_rank_zero_arrives(text):
    assert on_ranks(2, lambda ranks: shared_text(ranks, "" if ranks.rank else text))[0] == [text] * 2
