"""Train an ensemble into a run folder, and report its members."""

from pathlib import Path
from typing import Any

from ffnn_gpu import temporary
from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.from_settings import fit_tabular, folds_for
from ffnn_gpu.estimators.tabular.importances import are_cheap, importances_of
from ffnn_gpu.estimators.tabular.members import Member
from ffnn_gpu.estimators.tabular.recipes import PRESETS
from ffnn_gpu.estimators.tabular.report import details, explained, half_widths, member_row, summary
from ffnn_gpu.training.history import History

MOST_NAMED = 20  # columns that are not read


class MemberTable:
    """Write metrics.jsonl and history.csv, a row for each member, whenever one is finished.

    From the first member on, the run folder stays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.history = folder, History()

    def add(self, member: Member) -> None:
        """Add a finished member."""
        temporary.discard(self.folder)
        self.history.rows.append(member_row(len(self.history) + 1, member))
        self.history.to_jsonl(self.folder / run_folder.METRICS_FILE)
        self.history.to_csv(self.folder / run_folder.HISTORY_FILE)


def train_members(
    config: TrainConfig, model: Model, training: Part, folder: Path, verbose: int
) -> tuple[Model, History, Ensemble]:
    """Train the members that the run folder lacks; return the joined model and a row for each member."""
    table, kept = MemberTable(folder), folder / run_folder.CHECKPOINT / run_folder.MEMBERS
    model, found = fit_tabular(config, model, training, verbose, kept, table.add)
    table.history.interrupted = found.signal
    return model, table.history, found


def course_of_members(config: TrainConfig, model: Model, training: Part, found: Ensemble) -> dict[str, Any]:
    """Return the entries of result.json about the members and how they were chosen."""
    recipes, columns = PRESETS[config.preset].recipes, training.x.shape[1]
    asked = folds_for(config, training) * len(recipes)
    early = sum(not each.is_whole for each in found.members)
    skipped = "members are missing or were stopped early" if early or len(found.members) < asked else ""
    importances = importances_of(model, found) if not skipped and are_cheap(model, found) else None
    said = {
        "members_asked": asked,
        "stopped_early": early,
        "half_widths": half_widths(found),
        "explanation": explained(found, model.network.n_in, columns),
        "importances": importances and dict(zip(importances.names, importances.mean, strict=True)),
        "details": [*details(found, importances, skipped or "there are too many columns"), *_unread(model)],
    }
    return {"ensemble": {**summary(found), **said}}


def _unread(model: Model) -> list[str]:
    """Return a line with the columns of a table that the networks do not read, if there are some."""
    encoding, read = model.encoding, {*(model.encoding.names if model.encoding else ())}
    names = [repr(name) for name in (encoding.columns if encoding else ()) if name not in read]
    more = ", …" * (len(names) > MOST_NAMED)
    listed = f"not read: {', '.join(names[:MOST_NAMED])}{more}; `ffnn-gpu inspect` prints the reasons"
    return [listed] if names else []
