"""`python3 scripts/aarch64.py --mirror URL [options of pytest]`: test the CPU backends on emulated aarch64.

    --folder DIR    folder of the emulator, the arm64 Python and its packages (0.8 GB); a second run with the
                    same folder downloads nothing; default: ffnn-gpu-aarch64 in the temporary folder
    --cpu NAME      processor to emulate and to compile for, by its name in QEMU and LLVM; default:
                    neoverse-n1, because NumPy's products are wrong on an emulated SME unit
    --mirror URL    a mirror of Debian's archive, such as the one in this machine's /etc/apt; required

It needs Debian or Ubuntu on x86-64 and Debian's signing keys (package debian-archive-keyring). QEMU and
Python come from Debian, the other packages from PyPI. All are unpacked into the folder. The machine's own
packages do not change, so root is not needed.

The tests run in a copy of the repository. Options of pytest are added to its command. If one of them names a
test, it replaces the default tests. Progress goes to standard error. Exit code 0: the tests passed; 2: the
emulated Python could not be prepared; otherwise pytest's.

docs/testing.md says what the emulation does not show.
"""

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if __name__ == "__main__" and importlib.util.find_spec("pip") is None:
    from bootstrap import restart  # Debian's Python without python3-pip: .venv has a pip

    sys.exit(restart(__file__, "test"))

from proofs.suite import copy_repository  # noqa: E402

SUITE, PYTHON, GLIBC = "bookworm", "3.11", 36  # Debian 12, its Python, and the minor version of its glibc
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN = {"arm64": ("python3", "libstdc++6"), "amd64": ("qemu-user-static",)}  # architecture → packages
RECORDING = "tests/backends/cpu/recording/"
# Without the other tests of recorded steps, because the emulator computes their products slowly.
TESTS = (
    "tests/backends/elementwise", "tests/backends/reference", "tests/backends/cpu/loops",
    "tests/backends/cpu/test_numpy_backend.py",
    RECORDING + "test_cores.py", RECORDING + "test_operations.py", RECORDING + "test_threads.py",
    RECORDING + "test_recorded_step.py::test_recorded_steps_of_every_layer_equal_plain_steps",
    "tests/nn/layers", "tests/nn/test_activations.py",
)  # fmt: skip
DOWNLOADS = "apt"  # folder of apt's lists and packages
STDERR = 2  # file descriptor


class SetupError(Exception):
    """The message states what is missing and what to do."""


def main(arguments: list[str] | None = None) -> int:
    options, of_pytest = parse(arguments)
    folder = options.folder.resolve()
    try:
        check_machine(folder)
        python = prepare(folder, options.mirror)
    except (SetupError, OSError, subprocess.CalledProcessError) as error:
        say(f"error: {error}")
        return 2
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy_repository(copy)
    command = [str(python), "-P", "-m", "pytest", *pytest_options(of_pytest, copy)]
    say("$ " + shlex.join(command))
    began, before = time.monotonic(), os.times().children_user
    code = subprocess.call(command, cwd=copy, env=environment(copy, options.cpu))
    seconds, on_cores = time.monotonic() - began, os.times().children_user - before
    say(f"{'failed' if code else 'passed'} after {seconds:.0f} s ({on_cores:.0f} s of CPU time)")
    return code


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options of this script, and the others, which are pytest's."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ffnn-gpu-aarch64")
    parser.add_argument("--cpu", default="neoverse-n1")
    parser.add_argument("--mirror", required=True)
    return parser.parse_known_args(arguments)


def check_machine(folder: Path) -> None:
    """Raise SetupError if this machine cannot run the emulator, or the folder is in the repository."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError("this needs Linux on x86-64; on aarch64 run scripts/test.py")
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise SetupError(f"this needs Debian or Ubuntu: there is no {program}")
    if not KEYRING.exists():
        raise SetupError(f"{KEYRING} is missing; install the package debian-archive-keyring")
    if folder.is_relative_to(ROOT):
        raise SetupError(f"--folder {folder} is in the repository; choose another one")
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise SetupError(f"--folder {folder} belongs to another user; choose another one")


def prepare(folder: Path, mirror: str) -> Path:
    """Return the emulated Python in `folder`, after downloading what is missing."""
    root, qemu, venv = folder / "root", folder / "qemu", folder / "python"
    for target, architecture in ((root, "arm64"), (qemu, "amd64")):
        recipe = " ".join((SUITE, *DEBIAN[architecture]))
        once(target, recipe, lambda to, each=architecture: unpack_debian(to, each, mirror))
    needed = requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = venv / "lib" / f"python{PYTHON}" / "site-packages"
    once(packages, "\n".join(needed), lambda to: install(to, needed))
    python = venv / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    (venv / "pyvenv.cfg").write_text(f"home = {root / 'usr' / 'bin'}\n", encoding="utf-8")
    python.write_text(wrapper(qemu, root), encoding="utf-8")
    python.chmod(0o755)
    return python


def once(target: Path, recipe: str, make: Callable[[Path], None]) -> None:
    """Call make(target), unless an earlier call with this recipe completed."""
    done = target.with_name(target.name + ".recipe")
    if target.exists() and done.exists() and done.read_text(encoding="utf-8") == recipe:
        return
    done.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    say(f"making {target}")
    make(target)
    done.write_text(recipe, encoding="utf-8")


def unpack_debian(target: Path, architecture: str, mirror: str) -> None:
    """Download Debian's packages of this architecture with all they depend on, and unpack them."""
    downloads = target / DOWNLOADS
    for name in ("lists/partial", "archives/partial"):
        (downloads / name).mkdir(parents=True)
    (downloads / "status").touch()  # no package is installed, so apt downloads every dependency
    (downloads / "sources.list").write_text(sources(architecture, mirror), encoding="utf-8")
    (downloads / "apt.conf").write_text(apt_settings(downloads, architecture), encoding="utf-8")
    apt = ["apt-get", "-qq", "-c", str(downloads / "apt.conf")]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--download-only", *DEBIAN[architecture]])
    for package in sorted((downloads / "archives").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(target)])
    shutil.rmtree(downloads)


def sources(architecture: str, mirror: str) -> str:
    """Return apt's list of sources."""
    return f"deb [arch={architecture} signed-by={KEYRING}] {mirror} {SUITE} main\n"


def apt_settings(downloads: Path, architecture: str) -> str:
    """Return settings with which apt uses its files in `downloads` only.

    The proxy in the machine's own settings is used. Commands that they start after an update are not.
    """
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",  # apt's own user may not write into `downloads`
        "Dir::State": downloads,
        "Dir::State::lists": downloads / "lists",
        "Dir::State::status": downloads / "status",
        "Dir::Cache": downloads,
        "Dir::Cache::archives": downloads / "archives",
        "Dir::Etc::sourcelist": downloads / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    cleared = ("APT::Architectures", "APT::Update", "DPkg::Post-Invoke", "DPkg::Pre-Install-Pkgs")
    lines = [f"#clear {name};" for name in cleared]
    lines += [f'{name} "{value}";' for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def requirements(pyproject: str) -> list[str]:
    """Return what the package, its extra `fast` and its tests require, without the package's other extras."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    tests = [each for each in extras["test"] if not each.startswith(project["name"])]
    return [*project["dependencies"], *extras["fast"], *tests]


def install(target: Path, needed: list[str]) -> None:
    """Install wheels for aarch64 into `target`."""
    system = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)]
    system += ["--platform=manylinux2014_aarch64", "--only-binary=:all:", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    run([*pip, f"--target={target}", f"--python-version={PYTHON}", *system, *needed])


def wrapper(qemu: Path, root: Path) -> str:
    """Return a shell script that runs the emulated Python.

    It is sys.executable, so the tests can start processes without binfmt_misc.
    """
    emulator, python = qemu / "usr/bin/qemu-aarch64-static", root / f"usr/bin/python{PYTHON}"
    words = shlex.join([str(emulator), "-L", str(root), "-0"]), shlex.quote(str(python))
    return f'#!/bin/sh\nexec {words[0]} "$0" {words[1]} "$@"\n'


def pytest_options(given: list[str], copy: Path) -> list[str]:
    """Return pytest's arguments: the given ones, and the default tests if none of them is a test."""
    named = any((copy / each.split("::")[0]).exists() for each in given if not each.startswith("-"))
    return ["-p", "no:cacheprovider", *given, *(() if named else TESTS)]


def environment(copy: Path, cpu: str) -> dict[str, str]:
    """Return the environment of the tests: the caller's, with one thread for NumPy and the copy's package."""
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CPU_FEATURES"}
    processor = {"QEMU_CPU": cpu, "NUMBA_CPU_NAME": cpu}
    return inherited | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(copy)} | processor


def run(command: list[str]) -> None:
    """Run a command whose output goes to standard error.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=STDERR, check=True)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
