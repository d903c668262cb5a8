"""`ffnn-gpu info` says in plain words which device computes."""

import pytest

from ffnn_gpu.cli.info import information, lines

INSTALL = 'pip install "ffnn_gpu[cuda13x]"'


def printed(**changes):
    """Return what is printed of this machine with other values, by the first word of its line."""
    return dict(line.split(maxsplit=1) for line in lines(information() | changes))


def with_cupy(version):
    return information()["versions"] | {"cupy": version}


def test_without_cupy_info_says_that_the_cpu_computes_and_how_to_use_a_gpu():
    reason = "chosen by auto: …: ModuleNotFoundError: No module named 'cupy'"
    found = printed(backend="numpy", reason=reason, hint=INSTALL, versions=with_cupy(None))
    assert found["backend"] == "numpy (the CPU computes, because CuPy is not installed)"
    assert found["hint"] == f"to use a GPU: {INSTALL}"


@pytest.mark.parametrize(
    ("stage", "version"),
    [
        ("compile and run a kernel", "14.0"),
        ("import cupy': ImportError: libcublas.so.13: cannot open shared object file", None),
    ],
)
def test_info_shows_the_stage_at_which_an_installed_cupy_failed(stage, version):
    reason = f"chosen by auto: CUDA device 0 cannot be used; it failed at the stage '{stage}'"
    found = printed(backend="numpy", reason=reason, hint="install nvrtc", versions=with_cupy(version))
    assert (found["backend"], found["hint"]) == (f"numpy ({reason})", "to use a GPU: install nvrtc")


def test_reason_of_a_chosen_device_is_shown_without_a_hint():
    found = printed(backend="numpy", reason="asked for", hint=None, versions=with_cupy(None))
    assert found["backend"] == "numpy (asked for)" and "hint" not in found
