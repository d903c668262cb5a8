"""Mutation testing of the code that computes, trains and measures: a random sample of cosmic-ray's mutants.

Why not cosmic-ray's own runner: it mutates in place and runs the whole suite for each mutant. Here each
mutant is made in a copy and meets the nearest tests first. Why not mutmut: it mutates functions only, and the
formulas here are lambdas in tables.

All backends share the formulas, so most of their tests run on the reference backend alone. Operators whose
mutants cannot run are left out, because they tell nothing about the tests: bitwise operators on
floating-point numbers, and `|` in annotations.
"""

import difflib
import random
from pathlib import Path
from typing import NamedTuple

from proofs import ROOT, Figure, Settings
from proofs.bugs import baseline
from proofs.suite import NO_VERDICT, NoVerdictError, caught_by, in_copies, stages, unhealthy

FORMULAS = (
    "ffnn_gpu/nn/activations.py", "ffnn_gpu/optim/optimizers.py", "ffnn_gpu/optim/muon.py",
    "ffnn_gpu/nn/rates.py",
    *(f"ffnn_gpu/nn/losses/{name}.py" for name in ("loss", "standard")),
    *(f"ffnn_gpu/nn/layers/{name}.py" for name in (
        "batch_norm", "cosine_embedding", "dense", "dropout", "embedding", "layer_norm", "ntk_dense",
        "parametric_activation", "periodic_embedding", "piecewise_linear_embedding",
        "average", "residual", "scale", "softmax", "stack")),
    *(f"ffnn_gpu/backends/reference/{name}.py" for name in (
        "column_maps", "embedding", "losses", "muon", "normalization", "per_column", "periodic",
        "piecewise_linear", "softmax", "step_control", "updates")),
)  # fmt: skip
FILES = (
    *FORMULAS,
    *(f"ffnn_gpu/nn/{name}.py" for name in (
        "data_dependent", "initializers", "network", "parameters", "prediction", "workspace")),
    *(f"ffnn_gpu/data/{name}.py" for name in ("labels", "minibatches", "standardizer")),
    *(f"ffnn_gpu/evaluation/{name}.py" for name in ("evaluate", "metrics")),
    "ffnn_gpu/nn/schedules.py",
    *(f"ffnn_gpu/training/{name}.py" for name in ("fit", "loss_meter", "resume", "run", "step")),
    *(f"ffnn_gpu/training/callbacks/{name}.py" for name in (
        "agreement", "best_weights", "callback", "checkpoint_files", "early_stopping", "monitor",
        "reduce_on_plateau")),
)  # fmt: skip
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{a}_{b}" for a in ARITHMETIC for b in ARITHMETIC if a != b),
    *(f"core/ReplaceUnaryOperator_{pair}" for pair in ("USub_UAdd", "Delete_USub", "Delete_Not")),
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in (
        "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_Gt",
        "Gt_Lt")),
    "core/NumberReplacer", "core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue",
    "core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/RemoveDecorator",
)  # fmt: skip
LOWEST_SCORE = 0.95
SECONDS = 400  # three times the longest selection of tests on two busy cores
NEEDS_NUMPY = ("ffnn_gpu/backends/reference/updates.py",)  # only the NumPy backend updates θ in blocks


class Mutant(NamedTuple):
    """The change that `operator` makes at its occurrence number `place` in `file`."""

    file: str
    operator: str
    place: int

    def text(self) -> str:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        return mutate_code(
            (ROOT / self.file).read_text(encoding="utf-8"), get_operator(self.operator)(), self.place
        )

    def __str__(self) -> str:
        old, new = (ROOT / self.file).read_text(encoding="utf-8").splitlines(), self.text().splitlines()
        changed = [
            line
            for line in difflib.unified_diff(old, new, n=0, lineterm="")
            if line[:2] not in ("--", "++", "@@")
        ]
        number = next(k for k, (a, b) in enumerate(zip(old, new, strict=False), 1) if a != b)
        return f"{self.file}:{number}  " + "  →  ".join(line[1:].strip() for line in changed)


def mutants() -> list[Mutant]:
    """Return all mutants in a fixed order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    found = []
    for file in FILES:
        nodes = list(ast_nodes(get_ast((ROOT / file).read_text(encoding="utf-8"))))
        for name in sorted(set(OPERATORS) & set(operator_names())):
            operator = get_operator(name)()
            found += [
                Mutant(file, name, k)
                for k in range(sum(len([*operator.mutation_positions(n)]) for n in nodes))
            ]
    return found


def chosen(file: str) -> str:
    """Return pytest's -k for mutants of this file."""
    return "not numpy" if file in FORMULAS and file not in NEEDS_NUMPY else ""


def prove(settings: Settings) -> list[Figure]:
    """Return the fraction of a random sample of mutants that make a test fail."""
    everything = mutants()
    sample = random.Random(settings.seed).sample(everything, min(settings.mutants, len(everything)))

    def plant(folder: Path, mutant: Mutant | None) -> str | None:
        if mutant is None:
            return unhealthy(folder, ((t, chosen(m.file)) for m in sample for t in stages(m.file)))
        by, only = stages(mutant.file), chosen(mutant.file)
        try:
            test = caught_by(folder, mutant.file, mutant.text(), by, only, SECONDS)
        except NoVerdictError as error:
            test = f"{NO_VERDICT}: {error}"
        settings.say(f"mutation: {mutant}: {test or 'SURVIVES'}")
        return test

    healthy, *found = in_copies(plant, [None, *sample], settings.scratch, settings.jobs)
    survivors = [str(mutant) for mutant, test in zip(sample, found, strict=True) if test is None]
    undecided = sum(test is not None and test.startswith(NO_VERDICT) for test in found)
    killed = len(sample) - len(survivors) - undecided
    promise = "a small change in code that computes, trains or measures makes a test fail"
    figure = (
        f"{killed} of {len(sample)} mutants caught ({killed / len(sample):.1%}; drawn from {len(everything)})"
    )
    holds: bool | None = killed >= LOWEST_SCORE * len(sample)
    if undecided:
        figure = f"{NO_VERDICT} of {undecided}, {figure}"
        holds = None if killed + undecided >= LOWEST_SCORE * len(sample) else False
    return [
        baseline("without a mutant these tests pass", healthy),
        Figure(promise, figure, holds, [f"survives: {s}" for s in survivors]),
    ]
