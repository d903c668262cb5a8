"""The proofs of `scripts/prove.py`: one file each, with a function `prove(settings)` that returns figures.

A figure is one row of the table: the promise, the count, and whether the promise holds. `holds` is None if
this machine cannot run the proof, or was too busy for a verdict; the row then gives the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """The options of the command line, a scratch folder, and the function that prints progress."""

    scratch: Path
    seed: int = 0
    kills: int = 200
    mutants: int = 150
    signals: int = 15
    examples: int = 400
    jobs: int = 1
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class Figure:
    """One promise and its result; `details` are further lines, such as which test caught which bug."""

    promise: str
    figure: str
    holds: bool | None
    details: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        if self.holds is None and self.figure.startswith("no verdict"):
            return "no verdict"
        return {True: "holds", False: "FAILS", None: "not run here"}[self.holds]
