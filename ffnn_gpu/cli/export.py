"""`ffnn-gpu export`: write a model for programs without this package.

Every file is made in memory before the first one is written, so an error leaves all of them as they were.
"""

from pathlib import Path
from typing import Any

import click

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.checkpoints.tensor_file import BEGINNING
from ffnn_gpu.cli import standard_streams
from ffnn_gpu.cli.exit_codes import print_result
from ffnn_gpu.errors import ConfigurationError

ENDINGS = {"onnx": ".onnx", "numpy": ".py", "safetensors": ".safetensors"}


@click.command("export")
@click.argument("model")
@click.option("--onnx", metavar="FILE", help="an .onnx file: raw columns in, labels and probabilities out")
@click.option("--numpy", metavar="FILE", help="a .py file that does the same and needs NumPy alone")
@click.option(
    "--safetensors", metavar="FILE", help="a .safetensors file: the weights as a PyTorch state_dict"
)
@click.option("--json", "as_json", is_flag=True, help="print the list of files as JSON")
def export_command(model: str, as_json: bool, **files: str | None) -> None:
    """Write MODEL for programs without this package.

    MODEL is a run folder or a checkpoint. The ONNX file and the Python file hold the encoding of raw columns,
    the network and the answers. See docs/export.md.
    """
    standard_streams.require_output()
    written = export(model, {kind: path for kind, path in files.items() if path is not None})
    print_result(dumps({"model": model, "files": written}) if as_json else "\n".join(lines(written)))


def export(source: str, files: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Write a model to files; return kind → path and bytes. Each file is replaced in one step.

    source: a run folder or a checkpoint.
    files: kind → path, for some kinds of ENDINGS.

    Raises before anything is written:
        ConfigurationError: no file is asked for, a path cannot be written, or the model has no such form.
        CheckpointError: there is no model.
    """
    if not files:
        raise ConfigurationError("export writes nothing; add --onnx FILE, --numpy FILE or --safetensors FILE")
    for kind, path in files.items():
        _require_writable(kind, path)
    from ffnn_gpu.estimators.model import Model
    from ffnn_gpu.export.state_dict import state_dict_bytes
    from ffnn_gpu.export.to_numpy import numpy_source
    from ffnn_gpu.export.to_onnx import onnx_bytes

    model = Model.load(source, "numpy")
    contents = {}
    for kind, path in files.items():
        if kind == "onnx":
            contents[kind] = onnx_bytes(model)
        elif kind == "numpy":
            contents[kind] = numpy_source(model, Path(path).stem).encode("utf-8")
        else:
            contents[kind] = state_dict_bytes(model)
    for kind, content in contents.items():
        atomic_file.write(Path(files[kind]), content)
    return {kind: {"path": files[kind], "bytes": len(content)} for kind, content in contents.items()}


def lines(written: dict[str, dict[str, Any]]) -> list[str]:
    """Format the result of `export` as lines of text."""
    return [f"{kind:<11} {file['path']} ({file['bytes']:,} bytes)" for kind, file in written.items()]


def _require_writable(kind: str, path: str) -> None:
    """Raise ConfigurationError for another ending, a folder, and a checkpoint, which would be lost."""
    if not path.lower().endswith(ENDINGS[kind]):
        raise ConfigurationError(f"--{kind} writes a file that ends with {ENDINGS[kind]}, not {path}")
    if Path(path).is_dir():
        raise ConfigurationError(f"--{kind}: {path} is a folder; give the name of a file")
    if Path(path).is_file():
        with open(path, "rb") as file:
            beginning = file.read(8 + len(BEGINNING))
        if beginning[8:] == BEGINNING:
            raise ConfigurationError(
                f"--{kind}: {path} is a checkpoint of ffnn_gpu, which would be lost; choose another name"
            )
