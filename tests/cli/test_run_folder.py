"""The configuration file of a run stays whole after a crash and on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.settings import TrainConfig, read_toml, resolve
from ffnn_gpu.errors import ConfigurationError
from tests.checkpoints.crash_points import crashes, dies, is_killed
from tests.cli.killed_runs import files_of, leave_halves

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs fork and resource")


def config(folder, epochs):
    return TrainConfig(data="digits", epochs=epochs, out=str(folder))


@POSIX
def test_crash_between_any_two_system_calls_of_a_resume_leaves_a_whole_configuration(tmp_path, monkeypatch):
    seen = []
    for crash in crashes(monkeypatch, is_killed):
        folder = tmp_path / str(len(seen))
        run_folder.claim(config(folder, 2), "digits", resume=False)
        crash(lambda folder=folder: run_folder.claim(config(folder, 30), "digits", resume=True))
        run_folder.require_usable(config(folder, 30), resume=True, overwrite=False)
        seen.append(resolve({}, file=folder / "config.toml", environment={}).epochs)
    assert len(seen) > 4 and {*seen} == {2, 30}


LIMITED = """
import resource, signal, sys
from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.settings import TrainConfig
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    run_folder.claim(TrainConfig(data="digits", epochs=30, out=sys.argv[1]), "digits", resume=True)
except OSError as error:
    print(error)
"""


@POSIX
def test_full_disk_does_not_change_the_configuration_of_the_run(tmp_path):
    run_folder.claim(config(tmp_path, 2), "digits", resume=False)
    before = (tmp_path / "config.toml").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    assert "the file was not changed" in done.stdout and "config.toml" in done.stdout
    assert (tmp_path / "config.toml").read_bytes() == before and os.listdir(tmp_path) == ["config.toml"]


def test_crash_before_the_first_configuration_leaves_a_usable_folder(tmp_path, monkeypatch):
    for number, crash in enumerate(crashes(monkeypatch, dies)):
        folder = tmp_path / str(number)
        crash(lambda folder=folder: run_folder.claim(config(folder, 2), "digits", resume=False))
        begun = (folder / "config.toml").exists()
        run_folder.require_usable(config(folder, 2), resume=begun, overwrite=False)
    assert begun and read_toml(folder / "config.toml")["epochs"] == 2


def test_folder_with_files_of_another_kind_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a run folder"):
        run_folder.require_usable(config(tmp_path, 2), resume=False, overwrite=False)


def test_resume_with_nothing_left_to_do_sweeps_what_killed_runs_left(tmp_path):
    out = str(tmp_path / "out")
    few = ("--epochs", "1", "--hidden", "4", "--device", "numpy", "--quiet")
    first = CliRunner().invoke(main, ["train", "digits", "--out", out, *few])
    assert first.exit_code == 0, first.output
    before = leave_halves(Path(out))
    again = CliRunner().invoke(main, ["train", "--resume", "--out", out, "--quiet"])
    assert again.exit_code == 0 and files_of(Path(out)) == before
