"""Put payloads that pickle would execute into every file that this library reads: none may be executed."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.data import readers
from ffnn_gpu.errors import CheckpointError, DataError
from proofs import Figure, Settings
from proofs.fuzz import FILES, make_whole


def prove(settings: Settings) -> list[Figure]:
    """Return one row."""
    executed, places = payloads(settings.scratch)
    figure = f"{len(places)} payloads, {len(executed)} executed"
    return [Figure("nothing in a file is executed", figure, not executed, executed)]


class Payload:
    """A payload: unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


def payloads(scratch: Path) -> tuple[list[str], list[str]]:
    """Return (places where the payload was executed, all places)."""
    folder, mark = scratch / "payloads", scratch / "executed"
    folder.mkdir()
    make_whole(folder)
    pickled = pickle.dumps(Payload(mark))
    pickle.loads(pickled).close()  # noqa: S301  checks that the payload works
    mark.unlink()
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, np.array([Payload(mark)], object), allow_pickle=True)
    np.savez(npz, X=np.array([Payload(mark)] * 2, object), y=np.zeros(2))
    contents = {"a.npy": [pickled, npy.getvalue()], "a.npz": [pickled, npz.getvalue()]}
    executed, places = [], []
    for name in (*FILES, "model.safetensors", "old/state.json", "old/model.safetensors"):
        for content in contents.get(name, [pickled]):
            (folder / name).write_bytes(content)
            places.append(name)
            try:
                if name.startswith(("model", "old")):
                    nn.load(folder / name.split("/")[0], "numpy")
                else:
                    readers.read(folder if "idx" in name else folder / name)
            except (CheckpointError, DataError):
                pass
            if mark.exists():
                executed.append(name)
            mark.unlink(missing_ok=True)
            make_whole(folder)
    return executed, places
