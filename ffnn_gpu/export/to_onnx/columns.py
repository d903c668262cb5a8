"""Raw columns → the matrix that the network reads, as ONNX nodes. Each column is an input (rows, 1).

number           float64, NaN where a cell is missing
time             float64, seconds since 1970 in UTC, NaN where a cell is missing
category, codes  text, "" where a cell is missing; blanks around a text are not removed
boolean          text in any spelling of `tables.spelling`, such as true, True, yes and 1

Numbers are scaled together as one matrix, because a graph of a few wide nodes runs faster than one of many
narrow ones. The columns are brought into their order at the end.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.export.lookup import table_of
from ffnn_gpu.export.to_onnx.formulas import cosine
from ffnn_gpu.export.to_onnx.graph import TEXT, Graph
from ffnn_gpu.export.to_onnx.spellings import spellings
from ffnn_gpu.tables.encoders import END, LIMIT, PERIODS, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.spelling import Spelling

FAR = 1e9  # u/√(1 + (u/3)²) is 3 to the last bit from here on, and (u/3)² cannot overflow
NOWHERE = -1, -1  # the place of a column that is not part of the matrix
Places = list[tuple[int, int]]
"""(index of the encoder, index of its output) for each column of the matrices"""


def encoded(graph: Graph, encoding: Encoding, dtype: Any) -> str:
    """Declare an input for each column that is read; return the matrix (rows, outputs) in `dtype`."""
    encoders = encoding.encoders
    scaled = [k for k, each in enumerate(encoders) if isinstance(each, NumberEncoder | TimeEncoder)]
    lost = Spelling(missing=encoding.missing)
    parts, found = _scaled(graph, [encoders[k] for k in scaled], lost) if scaled else ([], [])
    found = [NOWHERE if place == NOWHERE else (scaled[place[0]], place[1]) for place in found]
    for k, encoder in enumerate(encoders):
        if isinstance(encoder, LevelEncoder):
            parts.append(_looked_up(graph, encoder, (*encoding.missing, *encoding.markers)))
            found += [(k, output) for output in range(len(encoder.outputs))]
    wanted = [(k, output) for k, each in enumerate(encoders) for output in range(len(each.outputs))]
    index = {place: k for k, place in enumerate(found)}
    order = graph.constant([index[place] for place in wanted], np.int64)
    return graph.cast(graph.node("Gather", graph.node("Concat", *parts, axis=1), order, axis=1), dtype)


def _scaled(graph: Graph, encoders: Sequence[Any], lost: Spelling) -> tuple[list[str], Places]:
    """Return matrices of float64 with the outputs of number and time encoders, and the columns' places.

    lost: knows the numbers and times that mean a missing cell.
    """
    scales = [each.seconds if isinstance(each, TimeEncoder) else each for each in encoders]
    x = graph.node("Concat", *(graph.input(each.name, np.float64, 1) for each in encoders), axis=1)

    def number(value: Any) -> str:
        return graph.constant(value, np.float64)

    missing = graph.node("IsNaN", x)
    is_time = np.array([isinstance(each, TimeEncoder) for each in encoders])
    pairs = [(value, np.nan) for value in lost.missing_numbers]
    for of_numbers, of_times in [*pairs, *((np.nan, value) for value in lost.missing_times)]:
        mine = number(np.where(is_time, of_times, of_numbers))
        missing = graph.node("Or", missing, graph.node("Equal", x, mine))
    distance = graph.node("Sub", x, number([each.center for each in scales]))
    u = graph.node("Mul", distance, number([each.factor for each in scales]))
    u = graph.node("Clip", graph.node("Where", missing, number(0), u), number(-FAR), number(FAR))
    part = graph.node("Div", u, number(LIMIT))
    length = graph.node("Sqrt", graph.node("Add", graph.node("Mul", part, part), number(1)))
    parts = [graph.node("Div", u, length), graph.cast(missing, np.float64)]
    places = [(k, 0) for k in range(len(scales))]
    places += [(k, 1) if each.lacks else NOWHERE for k, each in enumerate(scales)]
    if any(each.tail for each in scales):
        cut = graph.node("Clip", u, number(-END), number(END))
        parts.append(graph.node("Mul", cut, number([each.tail for each in scales])))
        places += [(k, 1 + each.lacks) if each.tail else NOWHERE for k, each in enumerate(scales)]
    circles = [
        (k, nth, period)
        for k, encoder in enumerate(encoders)
        if isinstance(encoder, TimeEncoder)
        for nth, period in enumerate(encoder.periods)
    ]
    if circles:
        index = graph.constant([k for k, _, _ in circles], np.int64)
        time, lacks = (graph.node("Gather", value, index, axis=1) for value in (x, missing))
        parts += _circles(graph, time, lacks, number([PERIODS[period] for _, _, period in circles]))
        first = [len(each.outputs) for each in scales]
        places += [(k, first[k] + 2 * nth + axis) for axis in (0, 1) for k, nth, _ in circles]
    return parts, places


def _circles(graph: Graph, time: str, lacks: str, lengths: str) -> list[str]:
    """Return sin and cos of 2π t / T, 0 where t is missing."""
    zero, turn = graph.constant(0, np.float64), graph.constant(2 * np.pi, np.float64)
    rest = graph.node("Mod", time, lengths, fmod=1)
    angle = graph.node("Div", graph.node("Mul", rest, turn), lengths)
    parts = graph.node("Sin", angle), cosine(graph, angle, np.float64)
    return [graph.node("Where", lacks, zero, part) for part in parts]


def _looked_up(graph: Graph, encoder: LevelEncoder, missing: Iterable[str]) -> str:
    """Return the outputs of a category or boolean (rows, outputs), float64."""
    words = spellings(encoder, missing)
    name = graph.input(encoder.name, TEXT, 1)
    row = graph.node(
        "LabelEncoder",
        graph.node("Squeeze", name, graph.constant([1], np.int64)),
        domain="ai.onnx.ml",
        keys_strings=[*words.rows],
        values_int64s=[*words.rows.values()],
        default_int64=words.unknown,
    )
    return graph.node("Gather", graph.constant(table_of(encoder), np.float64), row, axis=0)


def kinds(encoding: Encoding) -> dict[str, str]:
    """Return name → kind of the raw columns that are read, in the order of the training table."""
    known = {encoder.name: encoder.kind for encoder in encoding.encoders}
    return {name: known[name].replace("codes", "category") for name in encoding.read}
