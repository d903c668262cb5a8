"""Plant each bug in a copy of the repository and find the test that fails.

The tests that the bugs meet are also run without a bug and must pass. A bug is caught only by a test that
passes without it. Where time ran out with and without a bug, there is no verdict.
"""

from pathlib import Path

from proofs import Figure, Settings
from proofs.planted import FURTHER, NAMED, Bug
from proofs.suite import (
    EVERYTHING,
    NO_END,
    NO_VERDICT,
    NoVerdictError,
    caught_by,
    in_copies,
    stages,
    unhealthy,
)


def prove(settings: Settings) -> list[Figure]:
    """Return one row for the named bugs and one for the others."""

    def meets(bug: Bug) -> list[tuple[str, ...]]:
        return [*stages(bug.file), EVERYTHING]

    def plant(folder: Path, bug: Bug | None) -> tuple[str, str | None]:
        if bug is None:
            test = unhealthy(folder, ((tests, "") for bug in (*NAMED, *FURTHER) for tests in meets(bug)))
            settings.say(f"bugs: no bug planted: {test or 'all tests pass'}")
            return "no bug planted", test
        try:
            test = caught_by(folder, bug.file, bug.text(folder), meets(bug))
        except NoVerdictError as error:
            test = f"{NO_VERDICT}: {error}"
        settings.say(f"bugs: {bug.name}: {test or 'SURVIVES'}")
        return bug.name, test

    (_, healthy), *found = in_copies(plant, [None, *NAMED, *FURTHER], settings.scratch, settings.jobs)
    rows = found[: len(NAMED)], found[len(NAMED) :]
    return [
        baseline("without a bug all tests pass", healthy),
        _row("the 18 named bugs and TF32 make a test fail", rows[0]),
        _row("further bugs in layers, losses, optimizers and activations make a test fail", rows[1]),
    ]


def baseline(promise: str, failure: str | None) -> Figure:
    """Return the row of tests without a change; no verdict if they did not end."""
    if failure is not None and failure.startswith(NO_END):
        return Figure(promise, f"{NO_VERDICT}: {failure}", None)
    return Figure(promise, failure or "all pass", failure is None)


def _row(promise: str, found: list[tuple[str, str | None]]) -> Figure:
    undecided = sum(test is not None and test.startswith(NO_VERDICT) for _, test in found)
    survive = sum(test is None for _, test in found)
    figure = f"{len(found) - survive - undecided} of {len(found)} caught"
    details = [f"{name}: {test or 'SURVIVES'}" for name, test in found]
    if undecided:
        figure = f"{NO_VERDICT} of {undecided}, {figure}"
    return Figure(promise, figure, False if survive else None if undecided else True, details)
