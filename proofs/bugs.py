"""Plant each bug in a copy of the repository and find the test that fails.

The tests that the bugs meet are also run without a bug and must pass.
"""

from pathlib import Path

from proofs import Figure, Settings
from proofs.planted import FURTHER, NAMED, Bug
from proofs.suite import EVERYTHING, caught_by, in_copies, stages, unhealthy


def prove(settings: Settings) -> list[Figure]:
    """Return one row for the named bugs and one for the others."""

    def meets(bug: Bug) -> list[tuple[str, ...]]:
        return [*stages(bug.file), EVERYTHING]

    def plant(folder: Path, bug: Bug | None) -> tuple[str, str | None]:
        if bug is None:
            test = unhealthy(folder, ((tests, "") for bug in (*NAMED, *FURTHER) for tests in meets(bug)))
            settings.say(f"bugs: no bug planted: {test or 'all tests pass'}")
            return "no bug planted", test
        test = caught_by(folder, bug.file, bug.text(folder), meets(bug))
        settings.say(f"bugs: {bug.name}: {test or 'SURVIVES'}")
        return bug.name, test

    (_, healthy), *found = in_copies(plant, [None, *NAMED, *FURTHER], settings.scratch, settings.jobs)
    rows = found[: len(NAMED)], found[len(NAMED) :]
    return [
        Figure("without a bug all tests pass", healthy or "all pass", healthy is None),
        _row("the 18 named bugs and TF32 make a test fail", rows[0]),
        _row("further bugs in layers, losses, optimizers and activations make a test fail", rows[1]),
    ]


def _row(promise: str, found: list[tuple[str, str | None]]) -> Figure:
    caught = sum(test is not None for _, test in found)
    details = [f"{name}: {test or 'SURVIVES'}" for name, test in found]
    return Figure(promise, f"{caught} of {len(found)} caught", caught == len(found), details)
