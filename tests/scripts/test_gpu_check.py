"""scripts/gpu_check.py on a machine without a GPU: the steps run stand-ins for Python and compute-sanitizer.

The stand-in for Python recognises the script it is asked to run and does what the test prescribes for it. The
tests of pip, of pytest's reports and of its interruption use the real programs.
"""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
REFUSED = "cublasLt 13.1.0 cannot compute a = gelu(x W + b) in bfloat16"
WELL = {
    "gpu_facts": "print('a warning'); print('{\"gpu\": \"a GPU\"}')",
    "gpu_quick": "open(argv[argv.index('--json') + 1], 'w').write('{\"steps\": {\"passed\": true}}')",
    "pytest": "report(case() + case())",
    "memcheck": "report(case()); print('========= ERROR SUMMARY: 0 errors')",
    "racecheck": (
        "report(case()); print('========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)')"
    ),
    "benchmark": "open(argv[argv.index('--json') + 1], 'w').write('{\"figure\": 3}')",
    "train_mnist": (
        "print('test accuracy 0.9812 on 3000 images after 4.5 s of training, 0.3 s a…\\n98 % after 2.5 s')"
    ),
}
WELL["ffnn_gpu"] = (
    "import json; folder = argv[argv.index('--out') + 1]; os.mkdir(folder); "
    "open(folder + '/result.json', 'w').write(json.dumps({'test': {'accuracy': 0.98}}))"
)
STAND_IN = f"""#!{sys.executable} -SE
import os, sys, time
from sys import argv

def case(inside=""): return f'<testcase classname="tests.a" name="b">{{inside}}</testcase>'

def report(cases):
    xml = next(word.partition("=")[2] for word in argv if word.startswith("--junit-xml="))
    counts = {{"tests": "<testcase", "failures": "<failure", "errors": "<error", "skipped": "<skipped"}}
    counts = " ".join(f'{{name}}="{{cases.count(tag)}}"' for name, tag in counts.items())
    open(xml, "w").write(f"<testsuites><testsuite {{counts}}>{{cases}}</testsuite></testsuites>")

actions = {{actions!r}}
exec(next((action for name, action in actions.items() if any(name in word for word in argv)), "sys.exit(99)"))
"""


@pytest.fixture
def steps(monkeypatch):
    """Load gpu_steps and the modules beside it anew for each test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("gpu_run", "gpu_steps", "gpu_check")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("gpu_steps")
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def gpu_run(steps):
    """The module by which gpu_steps runs commands."""
    return sys.modules["gpu_run"]


@pytest.fixture
def prove(steps, tmp_path, monkeypatch):
    """Return (exit code, report) of gpu_check; keywords replace the actions of stand-ins."""
    gpu_check = importlib.import_module("gpu_check")
    monkeypatch.setattr(gpu_check.signal, "signal", lambda *_: None)
    python, tools, mnist = (tmp_path / name for name in ("python", "bin", "mnist"))
    tools.mkdir()
    mnist.mkdir()
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(steps.sys, "executable", str(python))

    def run(*options, **actions):
        write(python, WELL | actions)
        write(tools / "compute-sanitizer", WELL | actions)
        code = gpu_check.main(["--out", str(tmp_path / "new" / "out"), "--mnist", str(mnist), *options])
        file = tmp_path / "new" / "out" / "gpu_check.json"
        return code, json.loads(file.read_text()) if file.exists() else None

    return run


def write(path, actions):
    # "pytest" is in compute-sanitizer's command and in temporary paths, "ffnn_gpu" may be in a script's path
    order = sorted(actions, key=lambda name: {"ffnn_gpu": 1, "pytest": 2}.get(name, 0))
    path.write_text(STAND_IN.replace("{actions!r}", repr({name: actions[name] for name in order})))
    path.chmod(0o755)


def outcomes(report):
    return {name: step["outcome"] for name, step in report["steps"].items()}


ALL_WELL = {"wheels": "not run"} | dict.fromkeys(
    ("machine", "quick", "parity", "sanitizer", "benchmark", "mnist", "tables"), "passed"
)


# --- the report


def test_report_holds_what_every_step_found(prove, capsys):
    code, report = prove()
    steps = report["steps"]
    assert (code, report["green"], outcomes(report)) == (0, True, ALL_WELL)
    named = re.fullmatch("[0-9a-f]{40}(.changes)?", report["commit"] or "") is not None
    assert named == (SCRIPTS.parent / ".git").exists() and report["seconds"] >= 0
    assert steps["machine"]["gpu"] == "a GPU" and steps["quick"]["steps"] == {"passed": True}
    assert (steps["parity"]["passed"], steps["parity"]["failed"], steps["parity"]["skipped"]) == (2, 0, {})
    assert steps["sanitizer"]["memcheck"]["summary"] == "ERROR SUMMARY: 0 errors"
    assert steps["sanitizer"]["racecheck"]["passed"] == 1
    assert steps["benchmark"]["figures"] == {"figure": 3}
    assert (
        steps["mnist"]["float32"]
        == steps["mnist"]["bfloat16"]
        == {"test_accuracy": 0.9812, "images": 3000, "training_seconds": 4.5, "seconds_to_98_percent": 2.5}
    )
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(steps)


FAULTS = {
    "a quick part fails": (
        {"gpu_quick": WELL["gpu_quick"] + "; sys.exit('off by 2')"}, "quick", "exit code 1: off"),
    "a quick check without results": ({"gpu_quick": "print('done')"}, "quick", "wrote no results"),
    "a test fails": ({"pytest": "report(case() + case('<failure/>')); sys.exit(1)"}, "parity", "exit code 1"),
    "a fixture fails": ({"pytest": "report(case('<error/>')); sys.exit(1)"}, "parity", "exit code 1"),
    "a test is skipped": (
        {"pytest": "report(case() + case('<skipped message=\"no GPU\"/>'))"}, "parity", "skipped: no GPU"),
    "no test ran": ({"pytest": "report('')"}, "parity", "not one test passed"),
    "pytest crashes": ({"pytest": "os.kill(os.getpid(), 11)"}, "parity", "exit code -11: it printed nothing"),
    "the report is no XML": ({"pytest": "report('<&')"}, "parity", "ParseError"),
    "an access out of bounds": (
        {"memcheck": "report(case()); sys.exit(86)"}, "sanitizer", "memcheck: exit code 86"),
    "a race": (
        {"racecheck": "report(case()); print('1 hazard'); sys.exit(86)"},
        "sanitizer", "racecheck: exit code 86: 1"),
    "a hazard": (
        {"racecheck": "report(case()); "
         "print('== RACECHECK SUMMARY: 1 hazards displayed (0 errors, 1 warnings)')"},
        "sanitizer", "racecheck: RACECHECK SUMMARY: 1 hazards",
    ),
    "a sanitizer that sees nothing": (
        {"memcheck": "report(case())"}, "sanitizer", "memcheck: it printed no summary"),
    "a sanitizer without tests": (
        {"memcheck": WELL["memcheck"].replace("case()", "''")}, "sanitizer", "memcheck: 0 tests passed",
    ),
    "a benchmark without figures": ({"benchmark": "print('done')"}, "benchmark", "wrote no figures"),
    "a benchmark that breaks off": (
        {"benchmark": WELL["benchmark"] + "; sys.exit('no room')"}, "benchmark", "exit code 1: no room",
    ),
    "an MNIST script that fails": (
        {"train_mnist": "sys.exit('no data')"}, "mnist", "float32: exit code 1: no data"),
    "an MNIST script without an accuracy": (
        {"train_mnist": "print('done')"}, "mnist", "float32: .* no accuracy"),
    "a table that cannot be trained on": ({"ffnn_gpu": "sys.exit('no')"}, "tables", "cuda: exit code 1: no"),
    "another accuracy on the GPU": (
        {"ffnn_gpu": WELL["ffnn_gpu"].replace("0.98", "0.95 if 'cuda' in argv else 0.9")},
        "tables", "0.95 on the GPU and 0.9 on the CPU"),
    "facts that are no JSON": ({"gpu_facts": "print('done')"}, "machine", "JSONDecodeError"),
    "facts that crash": ({"gpu_facts": "sys.exit('no cupy')"}, "machine", "exit code 1: no cupy"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_step_that_fails_says_why(prove, name):
    actions, step, why = FAULTS[name]
    code, report = prove("--only", "mnist" if step == "machine" else step, **actions)
    assert (code, report["green"], report["steps"][step]["outcome"]) == (1, False, "failed")
    assert re.search(why, report["steps"][step]["why"])


def test_failing_step_stops_no_other_and_keeps_what_it_found(prove):
    failing = {"gpu_facts": "sys.exit(1)", "gpu_quick": WELL["gpu_quick"] + "; sys.exit(1)",
               "pytest": "report(case() + case('<failure/>')); sys.exit(1)",
               "racecheck": "sys.exit(86)", "benchmark": WELL["benchmark"] + "; sys.exit(1)"}  # fmt: skip
    _, report = prove(**failing)
    assert outcomes(report) == dict.fromkeys(ALL_WELL, "failed") | {
        "wheels": "not run", "mnist": "passed", "tables": "passed"
    }  # fmt: skip
    steps = report["steps"]
    assert (steps["parity"]["passed"], steps["parity"]["failures"]) == (1, ["tests.a::b"])
    assert steps["sanitizer"]["memcheck"]["passed"] == 1
    assert steps["benchmark"]["figures"] == {"figure": 3}


@pytest.mark.parametrize("reason", [REFUSED, "could not import 'torch': No module named 'torch'"])
def test_documented_skips_are_counted_and_forgiven(prove, reason):
    code, report = prove(pytest=f"report(case() + case('''<skipped message=\"{reason}\"/>''') * 2)")
    assert (code, report["steps"]["parity"]["skipped"]) == (0, {reason: 2})


def test_step_out_of_time_is_stopped_and_the_report_is_written(prove, monkeypatch, gpu_run):
    monkeypatch.setattr(gpu_run, "PATIENCE", 0.2)
    began = time.monotonic()
    code, report = prove(
        "--minutes", "0.015", pytest="import signal; signal.signal(2, lambda *_: None); time.sleep(60)"
    )
    assert time.monotonic() - began < 10
    assert code == 1 and re.fullmatch("stopped after [01] s", report["steps"]["parity"]["why"])
    assert {report["steps"][name]["why"] for name in ("benchmark", "mnist")} == {"no time was left"}


def test_call_ends_within_nine_minutes_by_default(prove, gpu_run, monkeypatch):
    deadlines, run = [], gpu_run.Check.run
    monkeypatch.setattr(
        gpu_run.Check,
        "run",
        lambda self, *command, **named: deadlines.append(self.deadline) or run(self, *command, **named),
    )
    began = time.monotonic()
    prove("--only", "mnist")
    assert began + 530 < min(deadlines) <= max(deadlines) < time.monotonic() + 541


def test_package_that_cannot_be_imported_ends_the_check(prove):
    code, report = prove(gpu_facts="print('ffnn_gpu cannot be imported: No module named numpy'); sys.exit(3)")
    assert (code, report["steps"]["machine"]["why"]) == (
        1,
        "ffnn_gpu cannot be imported: No module named numpy",
    )
    assert outcomes(report) == dict.fromkeys(ALL_WELL, "not run") | {"machine": "failed"}


def test_benchmarks_are_chosen_by_title(prove):
    told = "open(argv[argv.index('--json') + 1], 'w').write('{\"figure\": \"' + argv[-1] + '\"}')"
    _, report = prove("--only", "benchmark", "--networks", "train 784,epoch", benchmark=told)
    assert report["steps"]["benchmark"]["figures"] == {"figure": "train 784,epoch"}


def test_gpu_that_the_sanitizer_does_not_support_is_no_failure(prove):
    text = "print('========= Error: Device not supported'); sys.exit(1)"
    code, report = prove("--only", "sanitizer", memcheck=f"report(''); {text}")
    assert (code, report["steps"]["sanitizer"]["outcome"]) == (0, "unsupported here")
    assert report["steps"]["sanitizer"]["memcheck"]["unsupported"] == "Error: Device not supported"
    code, report = prove("--only", "sanitizer", memcheck=f"report(case()); {text}")
    assert (code, report["steps"]["sanitizer"]["outcome"]) == (1, "failed")


def test_steps_are_chosen(prove):
    _, report = prove("--only", "parity,benchmark")
    assert outcomes(report) == ALL_WELL | dict.fromkeys(("quick", "sanitizer", "mnist", "tables"), "not run")
    _, report = prove("--skip", "sanitizer,mnist,tables")
    assert outcomes(report) == ALL_WELL | dict.fromkeys(("sanitizer", "mnist", "tables"), "not run")
    with pytest.raises(SystemExit):
        prove("--only", "machine")


def test_absent_sanitizer_is_named_and_no_failure(prove, monkeypatch, steps):
    monkeypatch.setattr(steps.shutil, "which", lambda name, path: None)
    code, report = prove()
    assert (code, outcomes(report)) == (0, ALL_WELL | {"sanitizer": "not installed"})


def test_machine_without_a_gpu_gets_one_sentence_and_no_report(prove, capsys):
    code, report = prove(gpu_facts="print('no device; look at nvidia-smi.'); sys.exit(2)")
    assert (code, report) == (2, None)
    assert "gpu_check found no GPU to test: no device; look at nvidia-smi.\n" in capsys.readouterr().err


def test_report_of_an_earlier_run_does_not_pass_for_this_one(prove):
    assert prove()[0] == 0
    assert prove(gpu_facts="print('no device.'); sys.exit(2)") == (2, None)


def test_facts_of_this_machine_without_a_gpu_are_the_sentence_of_the_probe():
    told = subprocess.run(
        [sys.executable, str(SCRIPTS / "gpu_facts.py")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SCRIPTS.parent)},
    )
    assert told.returncode == 2
    assert told.stdout.startswith("CUDA device 0 cannot be used; it failed at the stage")
    assert told.stdout.count("\n") == 1


def test_commit_of_a_clone_is_named_and_of_a_copy_is_not(steps, tmp_path, monkeypatch):
    gpu_check = importlib.import_module("gpu_check")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert gpu_check.commit() is None


# --- how a step runs


@pytest.fixture
def check(gpu_run, tmp_path):
    """A Check in temporary folders."""
    (tmp_path / "scratch").mkdir()
    return gpu_run.Check(tmp_path, tmp_path / "scratch")


def test_environment_of_a_step_has_no_settings_that_change_what_is_tested(check, monkeypatch):
    for name in ("FFNN_GPU_DEVICE", "FFNN_GPU_TF32", "CUPY_TF32"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUPY_CACHE_DIR", "kept")
    environment = check.environment()
    assert {name: value for name, value in environment.items() if name.startswith(("FFNN", "CUPY"))} == {
        "FFNN_GPU_REQUIRE_GPU": "1",
        "CUPY_CACHE_DIR": "kept",
    }
    assert environment["EVERY_CASE"] == "1"


def test_toolkit_among_the_wheels_is_found_by_the_loader_and_the_compiler(check, monkeypatch):
    """CuPy and nvmath search by cuda.pathfinder, which reads site-packages but not PYTHONPATH."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "before")
    monkeypatch.setenv("CUDA_HOME", "another")
    names = "CUDA_PATH", "CUDA_HOME", "LD_LIBRARY_PATH"
    assert [check.environment().get(name) for name in names] == [
        os.environ.get("CUDA_PATH"),
        "another",
        "before",
    ]
    toolkit = check.site / "nvidia" / "cu13"
    for folder in ("lib", "include"):
        (toolkit / folder).mkdir(parents=True)
    (toolkit / "include" / "cuda_runtime.h").touch()
    assert [check.environment()[name] for name in names] == [
        str(toolkit),
        str(toolkit),
        f"{toolkit}/lib:before",
    ]


def test_command_that_is_not_there_is_a_sentence(check, steps):
    with pytest.raises(steps.StepError, match=r"nowhere cannot be started: .*No such file"):
        check.run("nowhere")


SLEEP = "import time; open('begun', 'w').close(); time.sleep(600)"


@pytest.fixture
def until_begun(gpu_run, tmp_path, monkeypatch):
    """Let the time of a command be up when it has made the file `begun`, however busy the machine is."""

    class Command(subprocess.Popen):
        def wait(self, timeout=None):
            end = time.monotonic() + 120
            while timeout == 99 and time.monotonic() < end:
                if (tmp_path / "begun").exists():
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.01)
            return super().wait(timeout)

    monkeypatch.setattr(gpu_run.subprocess, "Popen", Command)
    monkeypatch.setattr(gpu_run, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_run, "PATIENCE", 60)
    return 99


def test_stopped_pytest_still_reports_what_passed(check, steps, tmp_path, until_begun):
    (tmp_path / "test_slow.py").write_text(f"def test_a(): pass\ndef test_b(): exec({SLEEP!r})\n")
    ended = steps._pytest(check, tmp_path / "a.xml", "-p", "no:cacheprovider", most=until_begun)
    assert ended.code is None
    assert steps.results(tmp_path / "a.xml")["passed"] == 1


def test_nothing_of_a_stopped_command_runs_on(check, tmp_path, until_begun):
    os.mkfifo(tmp_path / "pipe")  # the child waits at it until there is a writer
    check.run("sh", "-c", "(exec 3<pipe; touch alive) & touch begun; wait", most=until_begun)
    with contextlib.suppress(OSError):  # which says that there is no reader any more
        while True:
            os.close(os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.01)
    assert not (tmp_path / "alive").exists()


def test_command_is_interrupted_where_the_check_itself_ignores_interrupts(check, until_begun):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `gpu_check.py &`
    try:
        ended = check.run(sys.executable, "-c", SLEEP, most=until_begun)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code is None
    assert "KeyboardInterrupt" in ended.text


@pytest.mark.parametrize("place", ["PATH", "CUDA_HOME", "CUDA_PATH", "wheel"])
def test_sanitizer_is_found_where_it_may_be(check, steps, tmp_path, monkeypatch, place):
    home = tmp_path / "home" if place != "wheel" else check.site / "nvidia" / "cu13"
    tool = home / "bin" / "compute-sanitizer"
    tool.parent.mkdir(parents=True)
    tool.touch(0o755)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    assert steps.find_sanitizer(check) == str(tool) or place != "wheel"
    if place != "wheel":
        monkeypatch.setenv(place, str(tool.parent if place == "PATH" else home))
    assert steps.find_sanitizer(check) == str(tool)


def test_sanitizer_runs_tests_that_exist(steps):
    file, *_, words = steps.SANITIZED
    assert f"def test_{words.split()[0]}" in (SCRIPTS.parent / file).read_text(encoding="utf-8")


# --- wheels


def wheel(folder, name, text, tag="py3-none-any"):
    """Write a wheel with one module, in version 1."""
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as file:
        file.writestr(f"{name}.py", text)
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\nRequires-Dist: not-there\n"
        )
        file.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_wheels_add_what_is_missing_and_replace_nothing(check, steps, tmp_path, monkeypatch):
    check.wheels = tmp_path / "wheels"
    check.wheels.mkdir()
    wheel(check.wheels, "ffnn_gpu_test_only", "word = 'from a wheel'")
    wheel(check.wheels, "numpy", "raise SystemExit('the numpy of the wheel')")
    found = steps.wheels(check)
    assert found == {"installed": ["ffnn_gpu_test_only"], "here_already": ["numpy"], "unfit": []}
    ended = check.run(sys.executable, "-c", "import numpy, ffnn_gpu_test_only as only; print(only.word)")
    assert (ended.code, ended.text) == (0, "from a wheel\n")


def test_wheel_of_another_python_is_left_out_and_named(check, steps, tmp_path):
    check.wheels = tmp_path / "wheels"
    check.wheels.mkdir()
    wheel(check.wheels, "ffnn_gpu_test_only", "word = 'from a wheel'")
    wheel(check.wheels, "ffnn_gpu_test_other", "", tag="cp27-cp27m-win32")
    found = steps.wheels(check)
    assert found == {
        "installed": ["ffnn_gpu_test_only"],
        "here_already": [],
        "unfit": ["ffnn_gpu_test_other"],
    }
    assert check.run(sys.executable, "-c", "import ffnn_gpu_test_only").code == 0


def test_folder_in_which_no_wheel_fits_installs_nothing_and_names_them(check, steps, tmp_path):
    check.wheels = tmp_path
    wheel(tmp_path, "ffnn_gpu_test_other", "", tag="cp27-cp27m-win32")
    assert steps.wheels(check) == {"installed": [], "here_already": [], "unfit": ["ffnn_gpu_test_other"]}


@pytest.mark.parametrize(
    ("name", "version", "here"),
    [
        ("cuda_core", "0.4.2", False),
        ("cuda_core", "0.5.0", True),
        ("cuda_pathfinder", "1.5", False),
        ("cuda_pathfinder", "1.10.0", True),
        ("numpy", "0.1", True),
    ],
)
def test_package_older_than_nvmath_needs_is_replaced(steps, monkeypatch, name, version, here):
    monkeypatch.setattr(steps.metadata, "version", lambda package: version)
    assert steps._is_here(name) == here


def test_cupy_of_the_machine_is_kept_whatever_its_cuda(steps, monkeypatch):
    for found in (None, object()):
        monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name, found=found: found)
        assert steps._is_here("cupy_cuda12x") == (found is not None)


def test_wheels_that_cannot_be_installed_are_named(check, steps, tmp_path):
    check.wheels = tmp_path
    with pytest.raises(steps.StepError, match="holds no wheels"):
        steps.wheels(check)
    (tmp_path / "ffnn_gpu_broken-1-py3-none-any.whl").write_text("no archive")
    wheel(tmp_path, "ffnn_gpu_test_only", "word = 'from a wheel'")  # it is installed all the same
    with pytest.raises(steps.StepError, match="ffnn_gpu_broken: exit code") as caught:
        steps.wheels(check)
    assert caught.value.found == {"missing": ["ffnn_gpu_broken"]}
    assert check.run(sys.executable, "-c", "import ffnn_gpu_test_only").code == 0


def test_environment_without_pip_borrows_one(check, gpu_run, steps, monkeypatch):
    ran = []
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        gpu_run.Check, "run", lambda self, *command: ran.append(command) or gpu_run.Ended(0, 0.0, "")
    )
    assert steps._pip(check) == (check.scratch / "pip" / "bin" / "python", "-m", "pip")
    assert ran == [(sys.executable, "-m", "venv", check.scratch / "pip")]
