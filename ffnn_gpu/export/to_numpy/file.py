"""The whole file: what it is, the answers, the features, the network, and the weights at the end."""

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.export.exported import Exported, exported
from ffnn_gpu.export.to_numpy import answers, columns, matrix
from ffnn_gpu.export.to_numpy.layers import Layers
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Embedding
from ffnn_gpu.version import __version__

BEGINNING = '''"""A neural network that ffnn_gpu {version} trained. This file needs NumPy alone.

    import {module}

    {module}.predict(rows)
"""

import base64
import io
{imports}
import numpy as np
'''
NETWORK = '''
def outputs(rows):
    """Return the outputs of the network (n, {width}) for raw rows."""
    x = features(rows)
    parts = [network(x[start : start + {block}]) for start in range(0, len(x), {block})]
    return np.concatenate(parts) if parts else np.empty((0, {width}), x.dtype)


@np.errstate(under="ignore")
def network(x):
    """Return the outputs of the network for the matrix that `features` returns."""
{lines}
    return x
'''
WEIGHTS = '''
def weights(text):
    """Return name -> array of a .npz file in base64."""
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as arrays:
        return dict(arrays)


WEIGHTS = weights("""
{text}
""")
'''
BLOCK = 1024  # rows that the NumPy backend predicts at once


def export_numpy(model: Any, path: str | Path) -> None:
    """Write a network or a model as one Python file that needs NumPy alone; an old file is replaced at once.

    model: a `Model`, a fitted estimator of this package, or a `Network`.

    The file has `predict(rows)` and, of a classifier, `probabilities(rows)`. In float64 they return the bits
    that `predict` returns on the NumPy backend without llvmlite. docs/export.md shows it.

    Raises ConfigurationError if a layer or an activation has no such form. Nothing is written then.
    """
    path = Path(path)
    atomic_file.write(path, numpy_source(model, path.stem).encode("utf-8"))


def numpy_source(model: Any, module: str = "model") -> str:
    """Return the content of the file that `export_numpy` writes. module: its name without .py."""
    given = exported(model)
    network = given.network
    to = Layers(network.dtype)
    to.stack(network.layers)
    width = network.widths[-1]
    found = answers.sources(given.task, width)
    blocks, arrays = _features(given)
    lines = "\n".join(f"    {line}" for line in to.lines)
    functions = to.functions | {name: text for name, text in found.items() if name != "predict"}
    parts = [
        "\n".join(answers.constants(given.task)),
        found["predict"],
        *blocks,
        NETWORK.format(width=width, lines=lines, block=BLOCK),
        *functions.values(),
        WEIGHTS.format(text=_text(_weights(network.layers, network.params.to_host()) | to.arrays | arrays)),
    ]
    body = "\n\n\n".join(part.strip("\n") for part in parts if part.strip())
    imports = "import math\n" * ("math.sqrt(" in body)
    imports += "import re\n" * ("re.sub(" in body or "re.fullmatch(" in body)
    if "datetime(" in body:
        imports += "from datetime import datetime, timedelta, timezone\n"
    module = module if module.isidentifier() else "model"
    beginning = BEGINNING.format(version=__version__, module=module, imports=imports)
    return f"{beginning}\n{body}\n"


def _features(given: Exported) -> tuple[list[str], dict[str, HostArray]]:
    """Return the blocks of code that make the matrix, and the arrays that they read."""
    dtype, width = given.network.dtype, given.network.n_in
    if given.encoding is not None:
        return columns.source(given.encoding, dtype)
    scaling = given.standardizer
    if scaling is None:
        return [matrix.source(width, dtype, None, None)], {}
    block = matrix.source(width, dtype, scaling.constant, given.limit)
    return [block], {"mean": np.asarray(scaling.mean), "scale": np.asarray(scaling.scale)}


def _weights(layers: Sequence[Layer], arrays: dict[str, HostArray], prefix: str = "") -> dict[str, HostArray]:
    """Return the arrays of a network; instead of 0.E the tables of the Embedding, 0.E0, 0.E1, …"""
    found = dict(arrays)
    for k, layer in enumerate(layers):
        name = f"{prefix}{k}"
        if isinstance(layer, Embedding):
            tables = layer.tables(found.pop(f"{name}.E"))
            found |= {f"{name}.E{column}": table for column, table in enumerate(tables)}
        found = _weights(getattr(layer, "layers", ()), found, f"{name}.layers.")
    return found


def _text(arrays: dict[str, HostArray]) -> str:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return "\n".join(textwrap.wrap(base64.b64encode(file.getvalue()).decode(), 100))
