"""The page of predicted costs: it is what the backend records now, and its model does what it says."""

import importlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_model import paper_cupy, traffic
from benchmarks.gpu_model.machine import Machine
from benchmarks.gpu_model.networks import CASES, Case, record
from benchmarks.gpu_model.paper_cupy import Launch
from benchmarks.gpu_model.timeline import alone, longest_chain, races, seconds
from ffnn_gpu.backends.cuda.kernels import NULL

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PAPER = Machine("paper", 1.0, 10.0, 1000.0, {"bfloat16": 100.0})


@pytest.fixture(scope="module")
def gpu_costs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("gpu_costs")


@pytest.mark.parametrize("number", [0, 2, 5])
def test_page_is_what_is_predicted_now(gpu_costs, number):
    line = f"| {' | '.join(gpu_costs.row(CASES[number]))} |\n"
    assert line in gpu_costs.PAGE.read_text(encoding="utf-8"), "run python3 scripts/gpu_costs.py"


def test_page_begins_with_the_text_of_the_script(gpu_costs):
    page = gpu_costs.PAGE.read_text(encoding="utf-8")
    assert page.startswith(gpu_costs.HEAD) and "These are predictions. No GPU has run this code" in page
    assert [line.split(" | ")[0] for line in page.splitlines()[-11:]] == [f"| {case.title}" for case in CASES]


# --- the model


def launch(*after, moved=0, flop=0, instructions=0.0, reads=(), writes=()):
    return Launch("a", reads, writes, moved, {"bfloat16": flop}, instructions, frozenset(after))


@pytest.mark.parametrize(
    ("one", "expected"),
    [(launch(), 1), (launch(moved=30), 3), (launch(moved=30, flop=500), 5), (launch(instructions=7000.0), 7)],
)
def test_launch_alone_takes_as_long_as_its_slowest_part(one, expected):
    assert alone(one, PAPER) == pytest.approx(expected) == seconds([one], PAPER)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ([launch(), launch(0), launch(1)], 3),
        ([launch(), launch(), launch()], 1),  # latencies pass side by side
        ([launch(moved=30), launch(moved=30)], 6),  # bytes are shared
        ([launch(moved=30), launch(flop=400)], 4),  # bytes and FLOP are not the same resource
        ([launch(moved=20), launch(moved=60)], 8),
        ([launch(moved=20), launch(moved=60), launch(0, flop=300)], 8),  # 4 until the first ends, 4 more
        ([launch(), launch(0, moved=40), launch(0), launch(1, 2)], 6),
        ([], 0),
    ],
    ids=range(8),
)
def test_launches_share_what_the_machine_has(graph, expected):
    assert seconds(graph, PAPER) == pytest.approx(expected)


def test_longest_chain_and_races_of_a_graph():
    a, b = (0, 4), (4, 8)
    graph = [
        launch(writes=(a,)),
        launch(reads=(a,)),
        launch(0, reads=(a,), writes=(b,)),
        launch(2, writes=(b,)),
    ]
    assert longest_chain(graph) == 3 and longest_chain([]) == 0
    assert races(graph) == [(0, 1)]
    assert races([launch(writes=(a,)), launch(reads=(b,))]) == []
    assert races([launch(reads=(a,)), launch(reads=((3, 5),))]) == []
    assert races([launch(reads=((0, 5),)), launch(writes=(b,))]) == [(0, 1)]


# --- what is recorded


@pytest.fixture
def cupy():
    with paper_cupy.installed() as module:
        yield module


def test_bytes_of_a_kernel_are_those_of_its_arrays(cupy):
    theta, shadow, m, v = (cupy.empty((100,), np.float32) for _ in range(4))
    reads, writes, moved, _ = traffic.accesses(
        "update_rule",
        (
            theta,
            theta,
            cupy.empty((100,), np.float16),
            0,
            0,
            shadow,
            NULL,
            0,
            0,
            0.0,
            0.0,
            NULL,
            m,
            v,
            0,
            0,
            0,
            0,
        ),
    )
    assert moved == 100 * (3 * 8 + 4 + 2) + shadow.nbytes
    assert traffic.extent(m) in reads and traffic.extent(m) in writes
    rows, index = cupy.empty((1000, 8), np.float32), cupy.empty((10,), np.int64)
    out = cupy.empty((10, 8), np.float32)
    moved = traffic.accesses("gather", (rows, index, NULL, NULL, out, 10, 8))[2]
    assert moved == 2 * out.nbytes + index.nbytes  # only the rows that are taken


def test_parameters_of_every_kernel_are_read_from_the_source():
    known = traffic.parameters()
    kernels = {"gather", "update_rule", "bias_activation", "activation_backward", "pointwise_loss", "advance"}
    assert kernels | {"softmax_cross_entropy", "column_sums", "periodic"} <= set(known)
    assert known["advance"] == [
        ("scalars", True, False),
        ("step", True, False),
        ("control", True, True),
        ("lr", True, True),
    ]
    assert {name for name, reads in traffic.IN_PLACE.items() for each in reads if each not in dict.fromkeys(
        parameter for parameter, *_ in known[name]
    )} == set()  # fmt: skip


def test_flop_of_a_step_are_those_of_its_products():
    for widths in ((784, 128, 10), (20, 130, 40, 50)):
        graph, steps = record(Case(widths, 64))
        products = [a * b for a, b in pairwise(widths)]
        want = 2 * 64 * (3 * sum(products) - products[0])
        assert sum(launch.flop.get("bfloat16", 0) for launch in graph) == steps * want


def test_work_of_a_narrow_stack_is_that_of_its_kernel():
    """100 rows are one tile of 128 for 8 warps, and 20-30-10 is padded to 32-32-16."""
    graph, steps = record(Case((20, 30, 10), 100))
    launches = [launch for launch in graph if launch.name.startswith("dense_stack_gradients")]
    assert len(launches) == steps
    products = 8 * (2 * 4 + 2 * 2) + 8 * (1 * 4) + 8 * (2 * 4 + 2 * 2 + 4 + 2)  # forward; δ Wᵀ; dW and db
    assert launches[0].flop == {"bfloat16 by mma.sync": products * 2 * 16 * 16 * 8}
    forward = 128 * 2 * (32 + 32 + 32) + 8 * (2 * 2 + 2 * 1) * 512  # x twice, a_1; W by every warp
    backward = 128 * 2 * (16 + 32 + 32) + 8 * 2 * 512 + 8 * 512 * (4 + 4 + 2 + 2 + 2 + 1)
    assert launches[0].shared == forward + backward


def test_products_of_tf32_have_a_rate_of_their_own():
    for tf32, kind in ((True, "tf32"), (False, "float32")):
        graph, _ = record(Case((20, 30, 10), 2**16, "float32"), tf32=tf32)
        assert {name for launch in graph for name in launch.flop} == {kind}


def test_capture_that_leaves_a_stream_unjoined_is_refused(cupy):
    main, side = cupy.cuda.Stream(), cupy.cuda.Stream()
    with main:
        main.begin_capture()
        event = cupy.cuda.Event()
        event.record(main)
        side.wait_event(event)
        with side:
            cupy.launched("a", [], [], 0)
        with pytest.raises(AssertionError, match="not joined"):
            main.end_capture()


def test_recording_needs_no_memory():
    """θ, ∇θ, moments and activations of 268 million parameters would be 9 GB."""
    graph, _ = record(CASES[-1])
    assert sum(launch.moved for launch in graph) > 9e9
