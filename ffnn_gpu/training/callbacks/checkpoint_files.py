"""Write checkpoints during a run."""

from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from ffnn_gpu.checkpoints import atomic_file, checkpoint
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Run
from ffnn_gpu.training.callbacks.monitor import Monitor


@dataclass
class Checkpoints(Monitor):
    """Write last.safetensors, from which a run resumes exactly, and best.safetensors, of the best epoch.

    If last.safetensors is missing, a run resumes from the folder `last` that an earlier version wrote.

    Args:
        path: the folder of both files.
        every_epochs, every_steps: intervals at which the first is written. It is also written after an
            interruption and at the end.
        extras: JSON values to store with the network.
    """

    path: str | Path
    every_epochs: int = 1
    every_steps: int | None = None
    monitor: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None

    def __post_init__(self) -> None:
        require_positive_int("every_epochs of Checkpoints", self.every_epochs)
        if self.every_steps is not None:
            require_positive_int("every_steps of Checkpoints", self.every_steps)
        _require_folder(Path(self.path))

    def start(self, run: Run) -> None:
        """Begin; remove what killed runs left beside both files, because this run may write neither."""
        super().start(run)
        if run.team.rank == 0:
            for path in (self.last, self.best_network):
                atomic_file.remove_leftovers(checkpoint.file_of(path))

    @property
    def last(self) -> Path:
        return Path(self.path) / "last"

    @property
    def best_network(self) -> Path:
        return Path(self.path) / "best"

    @property
    def has_last(self) -> bool:
        """True if there is a checkpoint to resume from."""
        return checkpoint.find(self.last) is not None

    def needs_every_step(self) -> bool:
        return self.every_steps is not None

    def after_step(self, run: Run) -> None:
        if self.every_steps and run.steps_done % self.every_steps == 0:
            run.save(self.last, self.extras)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.improves(row):
            with run.averaged():
                run.save_network(self.best_network, self.extras | {"row": row})
        if run.epoch % self.every_epochs == 0 or run.epoch == run.epochs or run.stop:
            run.save(self.last, self.extras)

    def after_interrupt(self, run: Run) -> None:
        run.save(self.last, self.extras)


def _require_folder(path: Path) -> None:
    """Raise ConfigurationError unless `path`, or else its nearest existing parent, is a folder."""
    for place in (path, *path.parents):
        try:
            if S_ISDIR(place.stat().st_mode):
                return
            problem = f"{str(place)!r} is a file"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"no checkpoints can be written to {str(path)!r}: {problem}; choose another folder"
        )
