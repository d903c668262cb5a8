"""Captured steps as branches: which launches wait for which, on the stand-in that records both.

The order of launches is found from streams and events, and what a launch reads and writes from the pointers
of its kernel. So a wrong entry of WRITTEN shows as two launches that touch the same memory in no order. That
the numbers are those of a chain is tested in test_graphs.py.
"""

import logging

import numpy as np
import pytest

from benchmarks.gpu_model import paper_cupy
from benchmarks.gpu_model.networks import Case, record
from benchmarks.gpu_model.timeline import longest_chain, races
from ffnn_gpu import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    Lion,
    Muon,
    Nadam,
    Residual,
    Softmax,
)
from ffnn_gpu.backends.cuda import branches, graphs
from ffnn_gpu.backends.cuda.branches import LEAST_PIECE, STREAMS, Branches
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.nn.losses import MeanOverRows, SoftmaxCrossEntropy
from ffnn_gpu.testing.strict_device import OutOfMemoryError
from tests.backends.cuda.fake_cupy import refusing

SMALL = Case((20, 160, 10), 2**15)  # two steps in a graph; too wide for one kernel
NARROW = Case((20, 32, 10), 2**15)
MIXED = [
    Dense(32, "gelu"),
    BatchNorm(),
    Dropout(0.3, "flat_cos"),
    Residual([LayerNorm(), Dense(32, "relu")]),
    Dense(10),
]
RULES = [
    SGD(0.1, momentum=0.9), AdamW(0.01, clip_norm=0.5, decay_schedule="coslog4"),
    Nadam(0.01, l2=0.1, ema=0.9), Lion(clip_value=1.0), Muon(clip_norm=1.0),
]  # fmt: skip


@pytest.fixture
def own_streams(monkeypatch):
    """Give an operation another stream than the 63 before it: they are not ordered because they share one."""
    monkeypatch.setattr(graphs, "STREAMS", 64)
    monkeypatch.setattr(Branches, "_stream", lambda self, needed, before: len(self._issued) % 64)


@pytest.mark.parametrize(
    ("dtype", "rule"),
    [*(("bfloat16", rule) for rule in RULES), ("float32", RULES[1])],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_launches_that_touch_the_same_memory_are_ordered(dtype, rule, own_streams):
    graph, steps = record(Case(SMALL.widths, SMALL.B, dtype), MIXED, optimizer=rule)
    assert steps == 2 and len(graph) > 2 * 30
    assert races(graph) == [] and longest_chain(graph) < len(graph) - 10


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize(
    "loss", [SoftmaxCrossEntropy(), MeanOverRows("softmax_cross_entropy")], ids=["plain", "over rows"]
)
def test_losses_of_packs_and_of_weighted_rows_are_ordered(loss, members, weighted, own_streams):
    graph, _ = record(SMALL, loss=loss, members=members, weighted=weighted)
    assert races(graph) == [] and (loss.reads_values or longest_chain(graph) < len(graph) / 1.2)


@pytest.mark.parametrize("dropout", [False, True])
def test_kernel_of_a_narrow_network_waits_for_its_rows_and_the_update_for_its_sums(dropout, own_streams):
    layers = [Dense(32, "relu"), *[Dropout(0.3, "flat_cos")] * dropout, Dense(10)]
    graph, steps = record(NARROW, layers, weighted=dropout)
    names = [launch.name.partition("_20_")[0] for launch in graph]
    assert races(graph) == [] and longest_chain(graph) < len(graph)
    assert names.count("dense_stack_gradients") == names.count("dense_stack_sums") == steps


def test_narrow_networks_of_a_pack_run_layer_by_layer(own_streams):
    layers = [Dense(32, "relu"), Dropout(0.3), Dense(10)]
    names = [launch.name for launch in record(NARROW, layers, members=3)[0]]
    assert "dropout" in names and not [name for name in names if name.startswith("dense_stack")]


def test_layers_without_kernels_wait_for_all_before_them(own_streams):
    layers = [Embedding((5,), (3,)), Dense(16, "relu"), Dense(10), Softmax()]
    graph, _ = record(SMALL, layers)
    assert races(graph) == [] and longest_chain(graph) < len(graph)


def test_operations_on_few_streams_are_ordered():
    assert races(record(SMALL, MIXED)[0]) == []


@pytest.mark.parametrize(
    "operation", ["affine_gradients", "take", "advance", "batch_norm", "gradient_factor"]
)
def test_forgotten_output_of_an_operation_is_seen_as_a_race(operation, own_streams, monkeypatch):
    monkeypatch.setitem(branches.WRITTEN, operation, "")
    assert races(record(SMALL, MIXED, optimizer=Adam(clip_norm=1.0))[0])


def test_missing_wait_is_seen_as_a_race(monkeypatch):
    monkeypatch.setattr(Branches, "_needed", lambda self, reads, writes: ([], 0))
    assert races(record(SMALL)[0])


def test_shared_scratch_is_seen_as_a_race(monkeypatch):
    monkeypatch.setattr(
        CupyBackend, "stream_number", lambda self, number: paper_cupy.contextlib.nullcontext()
    )
    assert races(record(SMALL)[0])


def test_step_of_two_layers_waits_for_seven_launches():
    """The longest chain: x W₁, x W₂, loss, dx₂, φ′, dW₁, the update of θ. Gathers run beside the update."""
    graph, steps = record(Case((784, 128, 10), 128))
    assert (steps, len(graph)) == (16, 12 * 16)
    assert longest_chain(graph) == 7 * 16 + 1


def test_update_of_a_large_layer_waits_for_its_own_gradient_alone():
    graph, steps = record(Case((1024, 512, 512, 16), 2**16))
    updates = [n for n, launch in enumerate(graph) if launch.name == "update_rule"]
    assert steps == 1 and len(updates) == 3  # W₁, W₂, the rest
    gradients = {n: launch.writes[0] for n, launch in enumerate(graph) if launch.name == "product BGRADA"}
    of_second_layer = sorted(gradients)[1]
    second = next(n for n in updates if of_second_layer in graph[n].after)
    assert not set(gradients) - {of_second_layer} & graph[second].after and races(graph) == []
    assert 1024 * 512 > LEAST_PIECE >= 512 * 512 > 512 * 16


def test_clipped_update_waits_for_the_whole_gradient():
    graph, _ = record(Case((1024, 512, 512, 16), 2**16), optimizer=Adam(clip_norm=1.0))
    norm = next(n for n, launch in enumerate(graph) if launch.name == "gradient_factor")
    assert (
        all(n > norm for n, launch in enumerate(graph) if launch.name == "update_rule") and races(graph) == []
    )


class OwnLayer(Dense):
    """A user's layer: it may touch arrays without an operation."""


class OwnRule(SGD):
    """A user's optimizer."""


@pytest.mark.parametrize(
    ("layers", "rule"),
    [([OwnLayer(10)], SGD()), ([Residual([OwnLayer(20)]), Dense(10)], SGD()), ([Dense(10)], OwnRule())],
    ids=["layer", "nested layer", "optimizer"],
)
def test_step_with_code_of_a_user_is_a_chain(layers, rule):
    graph, _ = record(SMALL, layers, optimizer=rule)
    assert longest_chain(graph) == len(graph)


def test_micro_batches_are_a_chain():
    graph, _ = record(Case(SMALL.widths, 64), accumulate=2)
    assert longest_chain(graph) == len(graph)


def test_branches_that_are_refused_become_a_chain(monkeypatch, caplog):
    monkeypatch.setattr(Branches, "join", lambda self: None)
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        graph, _ = record(SMALL)
    assert longest_chain(graph) == len(graph)
    assert (
        "captured as a chain: its recording was refused with AssertionError: cudaErrorStreamCapture"
        in caplog.text
    )


def test_branches_without_room_for_their_scratch_become_a_chain(monkeypatch, caplog):
    monkeypatch.setattr(CupyBackend, "reserve", refusing(OutOfMemoryError("no room")))
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        graph, _ = record(SMALL)
    assert longest_chain(graph) == len(graph) and "a chain: OutOfMemoryError: no room" in caplog.text


def test_every_operation_that_is_named_exists_with_its_arguments():
    for operation, written in branches.WRITTEN.items():
        parameters = branches._signature(operation).parameters
        assert set(written.split()) <= set(parameters), operation
    assert all(next(iter([*branches._signature(rule).parameters][1:])) == "update" for rule in branches.RULES)


def test_scratch_is_made_for_every_stream_before_a_capture():
    with paper_cupy.installed():
        backend = CupyBackend()
    kernels = backend.kernels
    first = kernels.scratch("partial", 5)
    backend.reserve(STREAMS)
    made = len(kernels.scratches())
    for number in range(STREAMS):
        with backend.stream_number(number):
            assert (kernels.scratch("partial", 5) is first) == (number == 0)
    assert made == len(kernels.scratches()) == STREAMS
    assert np.unique([array.data.ptr for array in kernels.scratches()]).size == STREAMS
