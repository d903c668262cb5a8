"""The table that describes a network."""

import math
from typing import Any


def summary(layers: tuple[Any, ...], widths: list[int], shapes: list[dict[str, Any]], itemsize: int) -> str:
    """Rows layer, output width, parameters, FLOPs of forward for one row, bytes; then the totals."""
    rows = [("layer", "output", "parameters", "FLOPs/row", "bytes")]
    totals = [0, 0]
    for layer, I, O, learnt in zip(layers, widths[:-1], widths[1:], shapes, strict=True):
        parameters, flops = count(learnt), layer.flops(I)
        totals = [totals[0] + parameters, totals[1] + flops]
        rows.append((repr(layer), str(O), f"{parameters:,}", f"{flops:,}", f"{parameters * itemsize:,}"))
    rows.append(("total", str(widths[-1]), f"{totals[0]:,}", f"{totals[1]:,}", f"{totals[0] * itemsize:,}"))
    wide = [max(len(row[c]) for row in rows) for c in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(row[1:], wide[1:], strict=True))]
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def count(learnt: dict[str, Any]) -> int:
    """The number of parameters in one layer's shapes, those of the layers inside it included."""
    return sum(
        sum(count(inner) for inner in shape) if name == "layers" else math.prod(shape)
        for name, shape in learnt.items()
    )
