"""Files of trained members, from which an interrupted ensemble continues."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.estimators.tabular.members import Member, Plan, Rows, Store
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.data_fingerprint import fingerprints
from ffnn_gpu.training.history import History


class MemberFiles(Store):
    """One checkpoint for each member in a folder, with its history and checksums of what it was made of.

    Args:
        folds: (n,) the fold of each row.
        metric: what decides which epoch of a member is kept; "" for the validation loss.
    """

    def __init__(
        self, folder: Path, backend: Backend, rows: Rows, folds: HostArray, metric: str = ""
    ) -> None:
        self.folder = folder
        dealt = zlib.crc32(np.ascontiguousarray(folds).view(np.uint8).data)
        known = {**fingerprints(backend, rows, None), "folds (checksum)": dealt}
        self.made_of = known | {"metric": metric or None}

    def load(self, plan: Plan, backend: Backend) -> tuple[Network, History] | None:
        """Return the network and the history in the file of this plan, None without one.

        Raises IncompatibleCheckpointError for a member of other rows or of another recipe.
        """
        path = self._path(plan)
        if checkpoint.find(path) is None:
            return None
        network, state, _ = checkpoint.read(path, backend)
        saved: dict[str, Any] = state["extras"]
        for name, value in self._known(plan).items():
            if saved.get(name) != value:
                raise IncompatibleCheckpointError(
                    f"{path} was written with other {name.partition(' (')[0]}; resume with the data and the "
                    "version of the run, or start a new one"
                )
        return network, History(saved["history"])

    def save(self, member: Member) -> None:
        """Write the file of a member, in one atomic step."""
        extras = {**self._known(member.plan), "history": member.history.rows}
        checkpoint.save(member.network, self._path(member.plan), extras=extras)

    def _path(self, plan: Plan) -> Path:
        return self.folder / f"{plan.recipe.name.replace(' ', '_')}-{plan.fold + 1}{checkpoint.SUFFIX}"

    def _known(self, plan: Plan) -> dict[str, Any]:
        return {**self.made_of, "recipe": repr(plan.recipe), "seed": plan.seed}
