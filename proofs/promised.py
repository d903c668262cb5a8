"""Run all tests that docs/promises.md names, and count them for each promise.

Also run every case of the tests of which a commit runs a selection (tests/every_case.py).
"""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from proofs import ROOT, Figure, Settings

PAGE = ROOT / "docs" / "promises.md"
SELECTS = re.compile(r"EVERY_CASE|^from tests\.(every_case|in_process) import", re.M)
SECTION = re.compile(r"^### (?P<promise>.+)\n(?P<text>[^#]+)", re.M)


def promises() -> dict[str, list[str]]:
    """Return promise → the tests that the page names for it."""
    page = PAGE.read_text(encoding="utf-8")
    sections = {
        section["promise"]: re.findall(r"^- `(tests/.+)`$", section["text"], re.M)
        for section in SECTION.finditer(page)
    }
    return {promise: tests for promise, tests in sections.items() if tests}


def selecting() -> list[str]:
    """Return the files with tests of which a commit runs a selection of cases."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        path.relative_to(ROOT).as_posix()
        for path in files
        if SELECTS.search(path.read_text(encoding="utf-8"))
    ]


def prove(settings: Settings) -> list[Figure]:
    """Return one row per promise with the number of its tests that pass, and one for every case."""
    promised, report = promises(), settings.scratch / "report.xml"
    promised |= {"Every case of the tests of which a commit runs a selection": selecting()}
    wanted = sorted({test for tests in promised.values() for test in tests})
    settings.say(f"tests: {len(wanted)} files and tests for {len(promised) - 1} promises")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-o",
               "junit_family=xunit1", *wanted]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EVERY_CASE": "1"}
    subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=7200
    )
    cases = [*ET.parse(report).iter("testcase")]
    return [
        _figure(promise, [case for case in cases if _is_of(case, tests)])
        for promise, tests in promised.items()
    ]


def _is_of(case: ET.Element, tests: list[str]) -> bool:
    file, name = case.get("file", ""), case.get("name", "").split("[")[0]
    return any(f"{file}::{name}" == test or file == test or file.startswith(f"{test}/") for test in tests)


def _figure(promise: str, cases: list[ET.Element]) -> Figure:
    failed = [
        case.get("name", "")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    figure = (
        f"{passed} tests pass, {len(failed)} fail"
        + f", {skipped} skipped (no GPU or a missing package)" * bool(skipped)
    )
    return Figure(re.sub("[`*]", "", promise), figure, passed > 0 and not failed, failed)


def exists(test: str) -> bool:
    """Return whether the file, folder or test function that a page names exists."""
    path, _, name = test.partition("::")
    found = Path(ROOT / path)
    return found.exists() and (not name or f"def {name}(" in found.read_text(encoding="utf-8"))
