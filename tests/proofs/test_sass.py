"""The budget of machine code: what is counted in a listing, and what counts as worse."""

import json

import pytest

from proofs import Settings, sass

LISTING = """
.text.of_two:
        /*0000*/                   LDG.E R1, desc[UR4][R2.64] ;
.L_x_1:
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/                   STL [R1], R4 ;
        /*0030*/                   LDG.E.U16 R4, desc[UR4][R2.64] ;
.L_x_2:
        /*0040*/                   BRX R2 -0x10 ;
        /*0050*/              @!P0 BRA `(.L_x_1) ;
        /*0060*/                   BRX R2 -0x10 ;
        /*0070*/               @P1 BRA P2, `(.L_x_3) ;
.L_x_3:
        /*0080*/                   EXIT ;
.L_x_4:
        /*0090*/                   BRA `(.L_x_4);
.text.without_loops:
        /*0000*/                   LDL.64 R1, [R2] ;
        /*0010*/                   EXIT ;
"""
LOG = """ptxas info    : Compiling entry function 'of_two' for 'sm_90'
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers
ptxas info    : Compiling entry function 'without_loops' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 7 registers
"""


def test_loops_loads_and_branches_are_counted():
    bodies, of_ptxas = dict(sass.functions(LISTING)), dict(sass.registers(LOG))
    assert of_ptxas == {"of_two": (40, 16), "without_loops": (7, 0)}
    assert sass.loops(*bodies["of_two"]) == [(0x10, 0x50)]
    assert sass.counts(40, 16, *bodies["of_two"]) == sass.Counts(40, 16, 1, 1, 128, 5)
    assert sass.counts(7, 0, *bodies["without_loops"]) == sass.Counts(7, 0, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("place", "number", "words"),
    [
        (0, 41, "41 registers, budget 40"),
        (1, 8, "8 spilled"),
        (2, 1, "1 local"),
        (3, 1, "1 indirect"),
        (4, 64, "64 widest, budget 128"),
        (5, 211, "211 looped, budget 200"),
    ],
)
def test_each_count_that_worsens_is_named(place, number, words):
    budget = {"a_f32": [40, 0, 0, 0, 128, 200]}
    worse = {"a_f32": [*budget["a_f32"]]}
    worse["a_f32"][place] = number
    better = {"a_f32": [39, 0, 0, 0, 128, 199]}
    assert sass.compared(budget, budget, "plain") == [] == sass.compared(budget, better, "plain")
    (line,) = sass.compared(budget, worse, "plain")
    assert line.startswith("a_f32 (plain): ") and words in line
    assert "has no budget" in sass.compared({}, worse, "plain")[0]


def test_budget_holds_every_kernel_of_its_types_and_another_compiler_gives_no_verdict(monkeypatch, tmp_path):
    budget = json.loads(sass.BUDGET.read_text(encoding="utf-8"))
    assert {*budget["plain"]} == {*budget["of members"]} and budget["rows of the loss"]["64"] <= 90
    assert {
        kernel.name for kernel in sass._tests().kernels_of_formulas() if kernel.name.endswith(sass.TYPES)
    } <= {*budget["plain"]}
    assert {kernel.name for kernel in sass.stacks()} == {*budget["stacks"]}
    assert all(sass.Counts(*row).indirect == 0 for row in budget["plain"].values())
    monkeypatch.setattr(sass, "_missing", lambda: "")
    slower = budget | {"rows of the loss": {C: n * 1.1 for C, n in budget["rows of the loss"].items()}}
    for found, holds in (
        (budget | {"nvrtc": [1, 0]}, [None]),
        (budget, [True, True]),
        (slower, [True, False]),
    ):
        monkeypatch.setattr(sass, "measured", lambda scratch, found=found: found)
        assert [figure.holds for figure in sass.prove(Settings(tmp_path))] == holds
