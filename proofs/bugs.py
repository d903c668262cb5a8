"""Every planted bug turns the suite red: which test saw which.

That the suite is green without one is tried on exactly the tests that the bugs meet.
"""

from pathlib import Path

from proofs import Figure, Settings
from proofs.planted import FURTHER, NAMED, Bug
from proofs.suite import EVERYTHING, caught_by, in_copies, stages, unhealthy


def prove(settings: Settings) -> list[Figure]:
    """One row for the named bugs, one for the others; each bug is planted in a copy of the repository of its own."""

    def meets(bug: Bug) -> list[tuple[str, ...]]:
        return [*stages(bug.file), EVERYTHING]

    def plant(folder: Path, bug: Bug | None) -> tuple[str, str | None]:
        if bug is None:
            test = unhealthy(folder, ((tests, "") for bug in (*NAMED, *FURTHER) for tests in meets(bug)))
            settings.say(f"bugs: nothing planted: {test or 'green'}")
            return "nothing planted", test
        test = caught_by(folder, bug.file, bug.text(folder), meets(bug))
        settings.say(f"bugs: {bug.name}: {test or 'SURVIVES'}")
        return bug.name, test

    (_, healthy), *found = in_copies(plant, [None, *NAMED, *FURTHER], settings.scratch, settings.jobs)
    rows = found[: len(NAMED)], found[len(NAMED) :]
    return [
        Figure("the suite is green without a bug", healthy or "green", healthy is None),
        _row("the 18 named bugs and TF32 turn the suite red", rows[0]),
        _row("further bugs in layers, losses, optimizers and activations do", rows[1]),
    ]


def _row(promise: str, found: list[tuple[str, str | None]]) -> Figure:
    caught = sum(test is not None for _, test in found)
    details = [f"{name}: {test or 'SURVIVES'}" for name, test in found]
    return Figure(promise, f"{caught} of {len(found)} caught", caught == len(found), details)
