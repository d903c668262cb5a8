"""Fill a disk while a checkpoint is written: the error must say so, and the old checkpoint must be unchanged.

Two disks are tried: a limit on the file size (RLIMIT_FSIZE), which cuts the write at a different place each
time, and a file system in memory that fills up, if this user may mount one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.errors import CheckpointError
from proofs import ROOT, Figure, Settings

PROMISE = "a full disk leaves the checkpoint that was there"
LIMITS = range(0, 9000, 250)
MOUNT = 'mount -t tmpfs -o size=128k tmpfs "$1" && shift && exec "$@"'


def prove(settings: Settings) -> list[Figure]:
    """Return one row per disk."""
    found = _child("limits", settings.scratch / "limited")
    return [_row("a limit on files", found), _row("a small tmpfs", _on_tmpfs(settings.scratch / "disk"))]


def _row(disk: str, found: dict[str, int | str | list[str]]) -> Figure:
    if "reason" in found:
        return Figure(f"{PROMISE}: {disk}", str(found["reason"]), None)
    lost = list(found["lost"]) if isinstance(found["lost"], list) else []
    figure = f"{found['refused']} incomplete writes, {len(lost)} lost anything"
    return Figure(f"{PROMISE}: {disk}", figure, bool(found["refused"]) and not lost, lost)


def _on_tmpfs(folder: Path) -> dict[str, int | str | list[str]]:
    """Run this in a new mount namespace, which ends with its process."""
    folder.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        return {"reason": "there is no unshare to mount a file system with"}
    command = [unshare, "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", str(folder)]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        return {"reason": f"no file system may be mounted: {tried.stderr.strip()[-80:]}"}
    return _child("tmpfs", folder, command)


def _child(part: str, folder: Path, before: list[str] | None = None) -> dict[str, int | str | list[str]]:
    command = [*(before or []), sys.executable, "-m", "proofs.full_disk", part, str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


def _lost(folder: Path, old: bytes) -> list[str]:
    beside = [e.name for e in folder.iterdir() if e.name not in ("model.safetensors", "ballast")]
    try:
        kept = checkpoint.read(folder / "model", "numpy")[0].params.theta.tobytes() == old
    except CheckpointError as error:
        return [str(error), *beside]
    return beside if kept else ["other numbers", *beside]


def _attempt(network: nn.Network, folder: Path, old: bytes) -> tuple[bool, list[str]]:
    """Return (was the write refused with the sentence?, what was lost)."""
    try:
        nn.save(network, folder / "model")
    except CheckpointError as error:
        said = "the file was not changed" in str(error)
        return said, _lost(folder, old) + ([] if said else [str(error)])
    return False, []


def limits(folder: Path) -> dict[str, int | list[str]]:
    """Write 8 kB under every limit that is too low."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old, new = nn.Network(4, [nn.Dense(3)], "numpy"), nn.Network(40, [nn.Dense(50)], "numpy", seed=1)
    nn.save(old, folder / "model")
    refused, lost = 0, list[str]()
    for limit in LIMITS:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        was_refused, problems = _attempt(new, folder, old.params.theta.tobytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if not was_refused:
            nn.save(old, folder / "model")
        refused, lost = refused + was_refused, lost + [f"limit {limit}: {problem}" for problem in problems]
    return {"refused": refused, "lost": lost}


def tmpfs(folder: Path) -> dict[str, int | list[str]]:
    """Write to a file system that ballast fills further each time.

    Without the ballast the next write must succeed.
    """
    old, new = nn.Network(4, [nn.Dense(3)], "numpy"), nn.Network(40, [nn.Dense(500)], "numpy", seed=1)
    nn.save(old, folder / "model")
    refused, lost = 0, list[str]()
    for size in range(0, 112_000, 4096):
        (folder / "ballast").write_bytes(bytes(size))
        was_refused, problems = _attempt(new, folder, old.params.theta.tobytes())
        (folder / "ballast").unlink()
        nn.save(old, folder / "model")
        refused, lost = refused + was_refused, lost + [f"ballast {size}: {problem}" for problem in problems]
    return {"refused": refused, "lost": lost}


if __name__ == "__main__":
    print(json.dumps({"limits": limits, "tmpfs": tmpfs}[sys.argv[1]](Path(sys.argv[2]))))
