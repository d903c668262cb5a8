"""The table that `Network.summary` returns."""

from collections.abc import Sequence

from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, count_parameters


def summary(layers: Sequence[tuple[Layer, int, Shapes, int]], n_out: int, itemsize: int) -> str:
    """Return a table: layer, output width, parameters, FLOPs for one row, bytes; and the totals.

    Args:
        layers: of each its output width, the shapes of its parameters, and its FLOPs for one row.
        n_out: the width of the whole network's output.
        itemsize: bytes of a parameter.
    """
    counts, flops = [count_parameters(shapes) for _, _, shapes, _ in layers], [work for *_, work in layers]
    names, widths = [*(repr(layer) for layer, *_ in layers), "total"], [*(O for _, O, *_ in layers), n_out]
    numbers = zip([*counts, sum(counts)], [*flops, sum(flops)], strict=True)
    rows = [("layer", "output", "parameters", "FLOPs/row", "bytes")] + [
        (name, str(width), f"{n:,}", f"{work:,}", f"{n * itemsize:,}")
        for name, width, (n, work) in zip(names, widths, numbers, strict=True)
    ]
    first, *rest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([name.ljust(first), *(cell.rjust(w) for cell, w in zip(cells, rest, strict=True))])
        for name, *cells in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
