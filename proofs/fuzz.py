"""Read malformed files: each must load or be refused with a sentence, in little memory.

hypothesis generates bytes, and whole checkpoints with correct checksums but nonsensical content. The reading
process may allocate only 512 MB more than it has, so a size that a file merely declares must not be
allocated.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import checkpoint, tensor_file
from ffnn_gpu.cli.reading import read_training
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data import readers
from ffnn_gpu.errors import CheckpointError, DataError
from proofs import ROOT, Figure, Settings

MEMORY = 512 * 2**20
OLD = "tests/golden/checkpoints/format-1-float32/exact"
FILES = ("a.npy", "a.npz", "a.csv", "a.csv.gz", "train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def prove(settings: Settings) -> list[Figure]:
    """Return one row per kind of file."""
    settings.say(f"fuzz: {settings.examples} examples of each of {len(KINDS)} kinds")
    command = [
        sys.executable,
        "-m",
        "proofs.fuzz",
        str(settings.scratch),
        str(settings.examples),
        str(settings.seed),
    ]
    # Why: glibc reserves 64 MB of addresses for each thread of the database, and the limit is on addresses.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=True
    )
    rows = []
    for name, (count, refused, problem) in json.loads(done.stdout).items():
        figure = (
            f"{count} examples, {refused} refused with a sentence, the others load"
            + ", one was not" * bool(problem)
        )
        promise = f"malformed files are refused in little memory: {name}"
        rows.append(Figure(promise, figure, not problem, [problem] * bool(problem)))
    return rows


# --- generated files


def bytes_near(st: Any, whole: bytes) -> Any:
    """Generate random bytes, and the bytes of a whole file with pieces replaced."""
    place = st.integers(0, max(len(whole) - 1, 0))

    def patched(edits: list[tuple[int, bytes]]) -> bytes:
        text = bytearray(whole)
        for start, piece in edits:
            text[start : start + len(piece)] = piece
        return bytes(text)

    return st.one_of(
        st.binary(max_size=400), st.lists(st.tuples(place, st.binary(max_size=9)), max_size=4).map(patched)
    )


def descriptions(st: Any) -> Any:
    """Generate nearly correct architectures, and invalid JSON."""
    numbers = st.one_of(
        st.integers(-2, 9), st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3)
    )
    names = st.sampled_from(
        ["Dense", "Dropout", "Residual", "BatchNorm", "LayerNorm", "Softmax", "Layer", "relu", "Normal"]
    )
    keys = st.sampled_from(
        ["class", "width", "rate", "layers", "activation", "phi", "alpha", "initializer", "bias", "eps"]
    )

    def nested(of: Any) -> Any:
        return st.one_of(st.lists(of, max_size=3), st.dictionaries(keys, of, max_size=4))

    anything = st.recursive(st.one_of(numbers, names), nested, max_leaves=9)
    settings = {
        "width": numbers,
        "rate": numbers,
        "layers": anything,
        "activation": anything,
        "phi": anything,
        "bias": st.booleans(),
    }
    layers = st.lists(st.fixed_dictionaries({"class": names}, optional=settings), max_size=3)
    dtype, seed = st.one_of(st.just("float32"), anything), st.one_of(st.just(0), numbers)
    fields = {"n_in": numbers, "seed": seed, "dtype": dtype, "layers": st.one_of(layers, anything)}
    return st.one_of(anything, st.fixed_dictionaries(fields))


def try_file(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    checkpoint.read(folder / "model", "numpy")


def try_sealed(folder: Path, content: bytes) -> None:
    start, end = tensor_file.START, tensor_file.END
    content = content[:8].ljust(8, b"\0") + tensor_file.BEGINNING + content[start:].ljust(64)
    try_file(folder, content[:start] + tensor_file._digest(content) + content[end:])


def try_description(folder: Path, description: Any) -> None:
    values = {"format_version": 2, "architecture": description, "state": {"updates": 0}}
    tensor_file.write(folder / "described", {"0.W": np.ones((4, 3), np.float32)}, values)
    checkpoint.read(folder / "described", "numpy")


def try_old_state(folder: Path, content: bytes) -> None:
    (folder / "old" / "state.json").write_bytes(content)
    checkpoint.read(folder / "old", "numpy")


def try_data(name: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        (folder / name).write_bytes(content)
        if ".csv" in name:
            read_training(TrainConfig(data=str(folder / name)))
        else:
            readers.read(folder if "idx" in name else folder / name)

    return read


KINDS: dict[str, Callable[[Path, Any], None]] = {
    "bytes as a checkpoint": try_file,
    "bytes under a right checksum": try_sealed,
    "architectures under a right checksum": try_description,
    "bytes as an old state.json": try_old_state,
    **{f"bytes as {name}": try_data(name) for name in FILES},
}


# --- the reading process


def run(folder: Path, examples: int, seed: int) -> dict[str, tuple[int, int, str]]:
    """Return kind → (number of examples, number refused, what went wrong)."""
    from hypothesis import HealthCheck, given, settings, strategies
    from hypothesis import seed as seeded

    whole = make_whole(folder)
    limits = settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    found = {}
    for name, attempt in KINDS.items():
        made_up = (
            descriptions(strategies) if attempt is try_description else bytes_near(strategies, whole[name])
        )
        tried = Tried(folder, attempt)
        try:
            seeded(seed)(limits(given(made_up)(tried.one)))()
            problem = ""
        except BaseException:  # also MemoryError and hypothesis's errors
            problem = traceback.format_exc()[-1500:]
        found[name] = (tried.count, tried.refused, problem)
    return found


class Tried:
    """Count attempts and refusals, which are this package's errors; other exceptions pass through."""

    def __init__(self, folder: Path, attempt: Callable[[Path, Any], None]) -> None:
        self.folder, self.attempt, self.count, self.refused = folder, attempt, 0, 0

    def one(self, value: Any) -> None:
        self.count += 1
        try:
            self.attempt(self.folder, value)
        except (CheckpointError, DataError) as error:
            if not str(error).strip():
                raise
            self.refused += 1


def make_whole(folder: Path) -> dict[str, bytes]:
    """Write a sound file of every kind and return their contents."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    nn.save(nn.Network(4, [nn.Dense(3)], "numpy"), folder / "model")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 3)), rng.integers(0, 2, 6)
    np.save(folder / "a.npy", X)
    np.savez(folder / "a.npz", X=X, y=y)
    (folder / "a.csv").write_text("\n".join(["a,b,c", *(",".join(map(str, row)) for row in X)]))
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes(), mtime=0))
    (folder / FILES[-2]).write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(24))
    )
    (folder / FILES[-1]).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 6]) + bytes([0, 1, 0, 1, 1, 0]))
    shutil.copytree(ROOT / OLD, folder / "old", dirs_exist_ok=True)
    network = (folder / "model.safetensors").read_bytes()
    return {
        "bytes as a checkpoint": network,
        "bytes under a right checksum": network,
        "bytes as an old state.json": (folder / "old" / "state.json").read_bytes(),
        **{f"bytes as {name}": (folder / name).read_bytes() for name in FILES},
    }


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sound = make_whole(Path(sys.argv[1]))
    for name in FILES:  # loads the libraries, which are not what a file makes the process allocate
        KINDS[f"bytes as {name}"](Path(sys.argv[1]), sound[f"bytes as {name}"])
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
