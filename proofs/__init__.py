"""What `scripts/prove.py` measures: one file per proof, each with `prove(settings)` → figures.

A figure is one row of the table: what is promised, what was counted, and whether it holds. None as the outcome means that it
could not be tried on this machine; the row says why.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """What the command line says, a scratch folder, and where progress goes."""

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
    """One promise with what was found; `details` are lines worth keeping, such as which test caught which bug."""

    promise: str
    figure: str
    holds: bool | None
    details: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        return {True: "holds", False: "FAILS", None: "not run here"}[self.holds]
