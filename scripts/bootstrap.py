"""Make a .venv in a fresh clone and install the package into it; standard library only.

Why: the README promises one command for the demo and one for the tests, on a machine that has only Python.
Whatever can go wrong before the package is installed (an old Python, no network, a full disk) becomes one
sentence. The syntax is that of Python 3.6, so that an old Python can print its sentence.

Why a stamp: asking pip for the installed packages takes 1 s. Reading .venv/ffnn_gpu.json and starting .venv's
Python takes 0.02 s. The stamp records what was installed, and `survey` works out what should be. If both are
equal, nothing is done. The stamp is invalidated before an installation and written after it, so an
interrupted one is repeated.
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
MINIMUM = (3, 11)  # requires-python in pyproject.toml, a file that an old Python cannot read
CUDA_EXTRAS = {"cuda12x", "cuda13x"}  # both install the module `cupy`: one at a time in a .venv
STAMP, LOCK, LOG = "ffnn_gpu.json", "ffnn_gpu.lock", "install.log"

Stamp = namedtuple("Stamp", "python root pyproject driver cuda extras refused")
Stamp.__doc__ = """The contents of a .venv.

    python, root   version and place of .venv; if either changes, .venv is made anew
    pyproject      SHA-256 of pyproject.toml; None during an installation
    driver, cuda   the nvidia-smi that answered (None if none did), and the CUDA extra for its answer
    extras         the installed extras, sorted; they accumulate
    refused        the CUDA extra that could not be installed; it is not tried again on every run
"""
NOTHING = Stamp(None, None, None, None, None, [], None)


class SetupError(Exception):
    """The message states what is wrong and what to do; `details` holds the lines of the log that show it."""

    def __init__(self, sentence, details="", then=", and run this again"):
        super().__init__(sentence)
        self.details = details
        self.then = then


def launch(extra, command, root=ROOT):
    """Run `command` with .venv's Python; return its exit code, or 2 if .venv cannot be prepared."""
    try:
        python = prepare(extra, root)
    except SetupError as error:
        if error.details:
            say(error.details)
        say(f"ffnn_gpu cannot start: {error}{error.then}.")
        return 2
    except KeyboardInterrupt:
        say("interrupted: the next run repeats the installation.")
        return 130
    return execute([str(python), *command])


def restart(script, extra="fast", root=ROOT):
    """Run `script` again with .venv's Python after installing `extra`; return its exit code."""
    if Path(sys.prefix) == root / ".venv" and extra in read_stamp(root).extras:
        say(f"error: packages of .venv cannot be imported; delete {root / '.venv'} and run this again")
        return 2
    return launch(extra, [str(script), *sys.argv[1:]], root)


def prepare(extra, root=ROOT):
    """Install what is missing of `extra` and CuPy, and return the path of .venv's Python.

    Raises:
        SetupError: the installation failed.
    """
    check_python()
    try:
        found, target = survey(extra, root)
        if found != target:
            with lock(root / ".venv"):
                found, target = survey(extra, root)  # another process may have installed it meanwhile
                if found != target:
                    install(root, found, target)
    except OSError as error:
        fallback = f".venv cannot be written ({error}); remove it"
        raise SetupError(explain(str(error), fallback)) from error
    return python_of(root)


def survey(extra, root):
    """Return (found, target): the usable contents of .venv, and the contents it should have.

    `found` is NOTHING if .venv must be made anew.
    """
    stamp, version, place = read_stamp(root), venv_version(root), str(root)
    pyproject = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    driver, cuda = cuda_here(stamp)
    kept = set(stamp.extras)
    clash = cuda and kept & CUDA_EXTRAS - {cuda}
    moved = (stamp.python, stamp.root) != (version, place)  # or its interpreter was upgraded
    stale = stamp != NOTHING and moved
    if version is None or clash or stale:
        found, version, kept = NOTHING, "{}.{}".format(*sys.version_info), kept - CUDA_EXTRAS
    else:
        found = stamp._replace(python=version, root=place)
    same = (found.pyproject, found.driver, found.refused) == (pyproject, driver, cuda)
    refused = cuda if cuda and same else None
    wanted = kept | {extra} | ({cuda} if cuda and not refused else set())
    return found, Stamp(version, place, pyproject, driver, cuda, sorted(wanted), refused)


def install(root, found, target):
    """Change .venv from `found` to `target`.

    The package runs without CuPy, so its failure is only reported.
    """
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
    """Raise SetupError if this Python is too old; the message names an installed newer one."""
    if sys.version_info >= MINIMUM:
        return
    newer = newer_python()
    advice = f"run `{newer} {sys.argv[0]}`" if newer else "install a newer Python and run this script with it"
    have, need = "{}.{}.{}".format(*sys.version_info), "{}.{}".format(*MINIMUM)
    raise SetupError(
        f"it needs Python {need} or newer, and {sys.executable} is Python {have}; {advice}", then=""
    )


def newer_python():
    """Return a command that runs a new enough Python, or None.

    It is run, because a pyenv shim may lead nowhere.
    """
    for minor in range(MINIMUM[1] + 9, MINIMUM[1] - 1, -1):
        name = f"python3.{minor}"
        if shutil.which(name) and answer([name, "--version"]) is not None:
            return name
    return None


def python_of(root):
    """Return the path of .venv's interpreter, which need not exist."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def venv_version(root):
    """Return .venv's Python version, such as "3.12"; None if it cannot be used or is too old."""
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
    """Make a new, empty .venv without pip, which `pip_install` adds if it is missing."""
    check_modules()
    for entry in (root / ".venv").iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(str(entry))
        elif entry.name != LOCK:
            entry.unlink()
    # sys.executable may be in the .venv that was just emptied
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, "-m", "venv", "--without-pip", str(root / ".venv")]
    run_logged(root, command, "a virtual environment could not be made")


def check_modules():
    """Raise SetupError if a module that makes virtual environments is a separate package, as on Debian."""
    for name in ("venv", "ensurepip"):
        if importlib.util.find_spec(name) is None:
            version = "{}.{}".format(*sys.version_info)
            raise SetupError(
                f"{sys.executable} comes without the module {name}, which makes .venv; on Debian or Ubuntu "
                f"run `sudo apt install python{version}-venv`, elsewhere install a complete Python"
            )


# --- the GPU


def cuda_here(stamp):
    """Return (driver, extra): the nvidia-smi that answered, and the CUDA extra for its driver.

    nvidia-smi can take seconds, so it is not run again once it has answered. A driver update replaces its
    file, which changes `driver`.
    """
    path = shutil.which("nvidia-smi")
    driver = path and f"{path} {os.stat(path).st_mtime_ns}"
    if stamp != NOTHING and driver == stamp.driver:
        return driver, stamp.cuda
    version = ask_cuda_version(path)
    return (driver if version else None), cuda_extra(version)


@functools.lru_cache(maxsize=None)  # noqa: UP033 - functools.cache is Python 3.9
def ask_cuda_version(path):
    """Return the driver's CUDA version, such as (12, 4), or None; print once why no GPU will be used."""
    version = cuda_version(answer([path]) if path else None)
    if version is None:
        say("no NVIDIA driver answers (nvidia-smi): CPU packages only.")
    elif cuda_extra(version) is None:
        known = "{}.{}".format(*version)
        say(f"the NVIDIA driver supports CUDA {known}, CuPy needs 12 or newer: CPU packages only.")
    return version


def cuda_version(text):
    """Read (12, 4) from the output of nvidia-smi; None if absent.

    Drivers from 610 on print "CUDA UMD Version".
    """
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+)\.(\d+)", text or "")
    return (int(match.group(1)), int(match.group(2))) if match else None


def cuda_extra(version):
    """Return the extra whose CuPy runs on a driver of this CUDA version, or None."""
    if version is None or version[0] < 12:
        return None
    return "cuda13x" if version[0] >= 13 else "cuda12x"


# --- pip


def pip_install(root, extras, effort):
    """Install the package, editable, with `extras` into .venv; pip's own settings stay in force."""
    name = "ffnn_gpu[{}]".format(",".join(extras))
    say(f"installing {name} into .venv ({effort}) ...")
    python = [str(python_of(root)), "-I", "-m"]  # -I: packages on PYTHONPATH are not installed
    if answer([*python, "pip", "--version"]) is None:
        run_logged(root, [*python, "ensurepip", "--default-pip"], "pip could not be added to .venv")
    quiet = ["--disable-pip-version-check", "--no-input", "-q"]
    run_logged(
        root,
        [*python, "pip", "install", *quiet, "-e", ".[{}]".format(",".join(extras))],
        f"pip could not install {name}",
    )


def run_logged(root, command, failure):
    """Run `command` in `root` and append its output to .venv/install.log.

    Raises:
        SetupError: the command failed; the message is the known cause in its output, otherwise `failure`.
    """
    log = root / ".venv" / LOG
    with open(str(log), "ab") as output:
        begin = output.tell()
        inout = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        # close_fds=False: the command inherits the lock, see `lock`
        code = subprocess.call(command, cwd=str(root), close_fds=False, **inout)
    if code != 0:
        text = log.read_bytes()[begin:].decode("utf-8", "replace")
        fallback = f"{failure}; fix the cause shown above (whole log: {log})"
        raise SetupError(explain(text, fallback), details=relevant(text))


# The first match counts: pip's output on a refused certificate also mentions a failed connection, and its
# output on a failed connection ends in "Could not find a version".
CAUSES = (
    (
        ("no space left on device", "errno 28]", "disk quota exceeded", "errno 122]", "winerror 112]"),
        "the disk is full; free about 1 GB (5 GB where CuPy is installed too)",
    ),
    (
        ("permission denied", "errno 13]", "read-only file system", "errno 30]", "winerror 5]"),
        "a folder is not writable; make the clone and the temporary folder writable for this user, "
        "or clone into a folder of your own",
    ),
    (
        ("certificate_verify_failed", "certificate verify failed"),
        "pip does not trust the certificate of the package index; set PIP_CERT to your network's own file",
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
        "no package index could be reached; check the network, or set PIP_INDEX_URL or PIP_PROXY for it",
    ),
    (
        ("could not find a version", "no matching distribution"),
        "the package index has no release that fits this Python and machine; check the network and the index "
        "(PIP_INDEX_URL), or try another Python from {}.{} on".format(*MINIMUM),
    ),
)


def explain(text, fallback):
    """Return the sentence for the first known cause found in `text`, else `fallback`."""
    lowered = text.lower()
    for signs, sentence in CAUSES:
        if any(sign in lowered for sign in signs):
            return sentence
    return fallback


def relevant(text, count=5):
    """Return the last lines of pip's output that contain an error, or simply the last lines."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and not line.lstrip().startswith("note:")]
    return "\n".join((errors or lines)[-count:])


# --- stamp and lock


def read_stamp(root):
    """Return the stamp in .venv; NOTHING if it is absent, damaged or has other fields."""
    try:
        stamp = Stamp(**json.loads((root / ".venv" / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return NOTHING
    return stamp if isinstance(stamp.extras, list) else NOTHING


def write_stamp(root, stamp):
    """Write the stamp atomically."""
    path = root / ".venv" / STAMP
    half = path.with_suffix(".half")
    half.write_text(json.dumps(stamp._asdict(), indent=1), encoding="utf-8")
    os.replace(str(half), str(path))


@contextlib.contextmanager
def lock(folder):
    """Lock `folder` for one process; a second process prints a message and waits.

    The operating system frees the lock when its last holder ends. pip inherits the handle, so if this process
    is killed, its pip finishes before another one starts.
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
    """Try to take the lock and return whether this process has it; True on a file system without locks."""
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
    """Return the output of `command`; None if it is absent, fails or takes longer than a minute."""
    try:
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=60).decode(
            "utf-8", "replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None


def execute(command):
    """Replace this process by `command`, so that it receives signals and sets the exit code.

    On Windows, which cannot do that, run it as a child and return its exit code.
    """
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while child.poll() is None:
        with contextlib.suppress(
            KeyboardInterrupt
        ):  # Ctrl-C reaches the child too, which then ends by itself
            child.wait()
    return child.returncode


def say(line):
    """Print a line to stderr, because stdout belongs to the command that follows."""
    print(line, file=sys.stderr, flush=True)
