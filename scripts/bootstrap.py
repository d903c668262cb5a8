"""From a fresh clone to a .venv in which the package runs; standard library only.

Why: the README promises one command for the demo and one for the tests, on a machine that has Python and nothing else.
demo.py and test.py meet here, and everything that can go wrong before the package exists (an old Python, no network, a
full disk) becomes one sentence. Python 3.6 syntax throughout: an old Python has to get as far as its own sentence.

Why a stamp: asking pip what is installed takes a second, reading .venv/ffnn_gpu.json and starting .venv's Python takes
0.02 s. The stamp says what was installed, `survey` says what should be, and where the two are equal nothing is done.
It is made invalid before an installation and written after it, so that an interrupted one is repeated.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)  # requires-python of pyproject.toml, which an old Python cannot read
CUDA_EXTRAS = {"cuda12x", "cuda13x"}  # both own the module `cupy`: one at a time in a .venv
STAMP, LOCK, LOG = "ffnn_gpu.json", "ffnn_gpu.lock", "install.log"

Stamp = namedtuple("Stamp", "python root pyproject driver cuda extras refused")
Stamp.__doc__ = """What .venv holds.

    python, root   version and place of .venv; another one means that it has to be made anew
    pyproject      SHA-256 of pyproject.toml, None while an installation goes on
    driver, cuda   the nvidia-smi that was asked, None where none answered; the extra that follows from its answer
    extras         installed, sorted; they accumulate
    refused        the CUDA extra that could not be installed here, so that not every run tries again
"""
NOTHING = Stamp(None, None, None, None, None, [], None)


class SetupError(Exception):
    """A sentence for the user: what is wrong and what to do; `details` are the lines of a log that show it."""

    def __init__(self, sentence, details="", then=", and run this again"):
        super().__init__(sentence)
        self.details = details
        self.then = then


def launch(extra, command, root=ROOT):
    """Exit code of .venv's Python running `command`; 2, after a sentence on stderr, where .venv cannot be prepared."""
    try:
        python = prepare(extra, root)
    except SetupError as error:
        if error.details:
            say(error.details)
        say(f"ffnn_gpu cannot start: {error}{error.then}.")
        return 2
    except KeyboardInterrupt:
        say("interrupted; the next run repeats the installation.")
        return 130
    return execute([str(python), *command])


def restart(script, extra="fast", root=ROOT):
    """Exit code of `script` run again, with the same arguments, by .venv's Python, in which `extra` is installed."""
    if Path(sys.prefix) == root / ".venv" and extra in read_stamp(root).extras:
        say(
            f"error: .venv cannot import what it holds; delete the folder {root / '.venv'} and run this again"
        )
        return 2
    return launch(extra, [str(script), *sys.argv[1:]], root)


def prepare(extra, root=ROOT):
    """Path of .venv's Python, after installing whatever of `extra` and CuPy is not there yet.

    Raises:
        SetupError: it cannot be done; the sentence says why and what to do.
    """
    check_python()
    try:
        found, target = survey(extra, root)
        if found != target:
            with lock(root / ".venv"):
                found, target = survey(extra, root)  # the process waited for may have done it
                if found != target:
                    install(root, found, target)
    except OSError as error:
        fallback = f".venv cannot be written ({error}); remove it"
        raise SetupError(explain(str(error), fallback)) from error
    return python_of(root)


def survey(extra, root):
    """(found, target): what .venv holds that can be kept (NOTHING: make it anew), and what it should hold."""
    stamp, version, place = read_stamp(root), venv_version(root), str(root)
    pyproject = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    driver, cuda = cuda_here(stamp)
    kept = set(stamp.extras)
    clash = cuda and kept & CUDA_EXTRAS - {cuda}
    stale = stamp != NOTHING and (stamp.python, stamp.root) != (
        version,
        place,
    )  # upgraded interpreter, moved folder
    if version is None or clash or stale:
        found, version, kept = NOTHING, "{}.{}".format(*sys.version_info), kept - CUDA_EXTRAS
    else:
        found = stamp._replace(python=version, root=place)
    same = (found.pyproject, found.driver, found.refused) == (pyproject, driver, cuda)
    refused = cuda if cuda and same else None
    wanted = kept | {extra} | ({cuda} if cuda and not refused else set())
    return found, Stamp(version, place, pyproject, driver, cuda, sorted(wanted), refused)


def install(root, found, target):
    """Bring .venv from `found` to `target`. Without CuPy the package still runs, so its failure costs a sentence."""
    if found.python is None:
        make_venv(root)
    write_stamp(root, found._replace(pyproject=None))
    present = set(found.extras) if found.pyproject == target.pyproject else set()
    plain = [extra for extra in target.extras if extra not in CUDA_EXTRAS]
    if set(plain) - present:
        pip_install(root, plain, "once, about a minute")
    for extra in CUDA_EXTRAS & set(target.extras) - present:
        try:
            pip_install(root, [extra], "CuPy: once, a large download")
        except SetupError as error:
            retry = f'{python_of(root)} -m pip install -e "{root}[{extra}]"'
            say(f"CuPy was not installed ({error}); going on with the CPU packages. To try again: {retry}")
            target = target._replace(extras=plain, refused=extra)
    write_stamp(root, target)


# --- Python and .venv


def check_python():
    """Raises SetupError where this Python is older than the package needs, naming a newer one if there is one."""
    if sys.version_info >= MINIMUM:
        return
    newer = newer_python()
    advice = f"run `{newer} {sys.argv[0]}`" if newer else "install a newer Python and run this script with it"
    have, need = "{}.{}.{}".format(*sys.version_info), "{}.{}".format(*MINIMUM)
    raise SetupError(
        f"it needs Python {need} or newer, and {sys.executable} is Python {have}; {advice}", then=""
    )


def newer_python():
    """Name of a command that runs a Python new enough, or None. Running it matters: a pyenv shim may lead nowhere."""
    for minor in range(MINIMUM[1] + 9, MINIMUM[1] - 1, -1):
        name = f"python3.{minor}"
        if shutil.which(name) and answer([name, "--version"]) is not None:
            return name
    return None


def python_of(root):
    """Path of the interpreter inside .venv, whether it exists or not."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version(root):
    """ "3.12" as .venv's own Python says it; None where it does not run, is no virtual environment or is too old."""
    code = (
        "import sys; print(*sys.version_info[:2], sep='.') if sys.prefix != sys.base_prefix else sys.exit(1)"
    )
    text = answer([str(python_of(root)), "-I", "-c", code])
    try:
        version = tuple(int(part) for part in text.split("."))
    except (AttributeError, ValueError):
        return None
    return text.strip() if version >= MINIMUM else None


def make_venv(root):
    """A new, empty .venv. Without pip: `pip_install` adds that where it is missing, also after an interruption."""
    check_modules()
    for entry in (root / ".venv").iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        elif entry.name != LOCK:
            entry.unlink()
    base = (
        getattr(sys, "_base_executable", None) or sys.executable
    )  # sys.executable may be in the .venv just emptied
    command = [base, "-m", "venv", "--without-pip", str(root / ".venv")]
    run_logged(root, command, "a virtual environment could not be made")


def check_modules():
    """Raises SetupError where the distribution has split off what makes virtual environments, as Debian does."""
    for name in ("venv", "ensurepip"):
        if importlib.util.find_spec(name) is None:
            version = "{}.{}".format(*sys.version_info)
            raise SetupError(
                f"{sys.executable} comes without the module {name}, which makes .venv; on Debian or Ubuntu run "
                f"`sudo apt install python{version}-venv`, elsewhere install a complete Python"
            )


# --- the GPU


def cuda_here(stamp):
    """(driver, extra): who was asked about CUDA and which CuPy follows.

    nvidia-smi can take seconds, so it is asked until it has answered once; an update of the driver replaces its file.
    """
    path = shutil.which("nvidia-smi")
    driver = path and f"{path} {os.stat(path).st_mtime_ns}"
    if stamp != NOTHING and driver == stamp.driver:
        return driver, stamp.cuda
    version = ask_cuda_version(path)
    return (driver if version else None), cuda_extra(version)


@functools.lru_cache(maxsize=None)  # noqa: UP033 - functools.cache is Python 3.9
def ask_cuda_version(path):
    """(12, 4), the CUDA that the driver behind nvidia-smi at `path` runs, or None; says, once, where no GPU follows."""
    version = cuda_version(answer([path]) if path else None)
    if version is None:
        say("no NVIDIA driver answers (nvidia-smi): CPU packages only.")
    elif cuda_extra(version) is None:
        known = "{}.{}".format(*version)
        say(
            f"the NVIDIA driver knows CUDA {known}, CuPy needs 12 or newer: CPU packages only until it is updated."
        )
    return version


def cuda_version(text):
    """(12, 4) from the table nvidia-smi prints, or None. Drivers from 610 on call it "CUDA UMD Version"."""
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+)\.(\d+)", text or "")
    return (int(match.group(1)), int(match.group(2))) if match else None


def cuda_extra(version):
    """The extra whose CuPy a driver of that CUDA version runs, or None."""
    if version is None or version[0] < 12:
        return None
    return "cuda13x" if version[0] >= 13 else "cuda12x"


# --- pip


def pip_install(root, extras, effort):
    """Install the package, editable, with `extras` into .venv; pip's settings (index, proxy, cache) stay the user's."""
    name = "ffnn_gpu[{}]".format(",".join(extras))
    say(f"installing {name} into .venv ({effort}) ...")
    python = [str(python_of(root)), "-I", "-m"]  # -I: a PYTHONPATH must not count as installed
    if answer([*python, "pip", "--version"]) is None:
        run_logged(root, [*python, "ensurepip", "--default-pip"], "pip could not be added to .venv")
    quiet = ["--disable-pip-version-check", "--no-input", "-q"]
    run_logged(
        root,
        [*python, "pip", "install", *quiet, "-e", ".[{}]".format(",".join(extras))],
        f"pip could not install {name}",
    )


def run_logged(root, command, failure):
    """Run `command` at `root` with its output in .venv/install.log.

    Raises:
        SetupError: it failed; the sentence says why where the output tells, and otherwise `failure`.
    """
    log = root / ".venv" / LOG
    with open(str(log), "ab") as output:
        begin = output.tell()
        inout = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        code = subprocess.call(
            command, cwd=str(root), close_fds=False, **inout
        )  # passes the lock on: see `lock`
    if code != 0:
        text = log.read_bytes()[begin:].decode("utf-8", "replace")
        fallback = f"{failure}; mend what the lines above name (all of them: {log})"
        raise SetupError(explain(text, fallback), details=relevant(text))


# Read from top to bottom: a refused certificate also reads as a failed connection, and a failed connection ends in
# "Could not find a version".
CAUSES = (
    (
        ("no space left on device", "errno 28]", "disk quota exceeded", "errno 122]", "winerror 112]"),
        "the disk is full; free about 1 GB (5 GB where CuPy is installed too)",
    ),
    (
        ("permission denied", "errno 13]", "read-only file system", "errno 30]", "winerror 5]"),
        "a folder is not writable; make the clone and the temporary folder writable for this user, or clone to a place of "
        "your own",
    ),
    (
        ("certificate_verify_failed", "certificate verify failed"),
        "the package index showed a certificate that pip does not trust; name your network's own certificate file in "
        "PIP_CERT",
    ),
    (
        (
            "name resolution",
            "name or service not known",
            "nodename nor servname",
            "getaddrinfo failed",
            "max retries",
            "connection",
            "timed out",
            "network is unreachable",
            "no route to host",
            "cannot connect to proxy",
        ),
        "no package index could be reached; check the network, or set PIP_INDEX_URL (or PIP_PROXY) to what your network "
        "uses",
    ),
    (
        ("could not find a version", "no matching distribution"),
        "the package index shows pip no release that fits this Python and machine; check the network and the index "
        "(PIP_INDEX_URL), or try another Python from {}.{} on".format(*MINIMUM),
    ),
)


def explain(text, fallback):
    """The sentence for the first known cause that `text` (pip's output, or an OSError's) shows, else `fallback`."""
    lowered = text.lower()
    for signs, sentence in CAUSES:
        if any(sign in lowered for sign in signs):
            return sentence
    return fallback


def relevant(text, count=5):
    """The last lines of pip's output that name an error, or the last ones altogether."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and not line.lstrip().startswith("note:")]
    return "\n".join((errors or lines)[-count:])


# --- stamp and lock


def read_stamp(root):
    """The stamp in .venv; NOTHING where it is absent, damaged or of another shape."""
    try:
        stamp = Stamp(**json.loads((root / ".venv" / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return NOTHING
    return stamp if isinstance(stamp.extras, list) else NOTHING


def write_stamp(root, stamp):
    """Write it whole or not at all."""
    path = root / ".venv" / STAMP
    half = path.with_suffix(".half")
    half.write_text(json.dumps(stamp._asdict(), indent=1), encoding="utf-8")
    os.replace(str(half), str(path))


@contextlib.contextmanager
def lock(folder):
    """Hold `folder` for one process; a second one waits and says so.

    The system frees the lock when its last holder ends, killed or not. pip inherits the handle and so is one of them:
    the pip of a killed process finishes before another one starts.
    """
    folder.mkdir(exist_ok=True)
    handle = os.open(str(folder / LOCK), os.O_RDWR | os.O_CREAT)
    os.set_inheritable(handle, True)
    try:
        if not try_lock(handle):
            say(f"another process is installing into {folder}; waiting for it ...")
            while not try_lock(handle):
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def try_lock(handle):
    """Whether the lock is ours now. A file system that has no locks gives it to everybody: better than to nobody."""
    try:
        if fcntl is None:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


# --- processes


def answer(command):
    """What `command` prints, or None where it is absent, fails or keeps silent for a minute."""
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=60).decode(
            "utf-8", "replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None


def execute(command):
    """Become `command`, so that signals and the exit code are its own; where no process can (Windows), wait for it."""
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while child.poll() is None:
        with contextlib.suppress(
            KeyboardInterrupt
        ):  # Ctrl-C reached the child too, which ends in its own way
            child.wait()
    return child.returncode


def say(line):
    """One line on stderr: stdout belongs to the command that follows."""
    print(line, file=sys.stderr, flush=True)
