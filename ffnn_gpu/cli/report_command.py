"""`ffnn-gpu report` and `ffnn-gpu compare`: write one HTML file about a run, or about several."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.cli import standard_streams
from ffnn_gpu.cli.exit_codes import Announce, print_error_line, print_result
from ffnn_gpu.cli.flags import quiet_option
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import ConfigurationError

if TYPE_CHECKING:
    from ffnn_gpu.cli.result import Result
    from ffnn_gpu.report import Findings

STDOUT = "-"
ENDINGS = (".html", ".htm")
COMPARISON = "comparison.html"
output_help = "the file to write, or - for standard output"
device_option = click.option(
    "--device", metavar="DEVICE", default="auto", help="auto, numpy, cupy or cupy:N, for the test rows"
)
json_option = click.option("--json", "as_json", is_flag=True, help="print what was written as JSON")


@click.command("report")
@click.argument("run")
@click.option("--output", metavar="FILE", help=f"{output_help}; default: report.html in the run folder")
@device_option
@quiet_option
@json_option
def report_command(run: str, output: str | None, device: str, quiet: bool, as_json: bool) -> None:
    """Write one HTML file about RUN, a run folder of `train` or `tune`.

    The file loads nothing from elsewhere. It shows what was decided about each column, learning curves, the
    errors on the test rows, calibration, importance of the columns, the worst rows, and how to repeat the
    run. The test rows are read again from the data of the run; without the data, the file says what it
    leaves out. See docs/reports.md.
    """
    from ffnn_gpu.cli import run_folder
    from ffnn_gpu.cli.record import record_of
    from ffnn_gpu.report import findings_of, run_page

    path = str(Path(run) / run_folder.REPORT) if output is None else output
    _require_writable(path)
    found = findings_of(record_of(run, device))
    _write(path, run_page(found), [found], quiet, as_json)


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...")
@click.option("--output", metavar="FILE", default=COMPARISON, help=f"{output_help}; default: {COMPARISON}")
@device_option
@quiet_option
@json_option
def compare_command(runs: tuple[str, ...], output: str, device: str, quiet: bool, as_json: bool) -> None:
    """Write one HTML file about several run folders.

    It begins with what differs: settings, metrics, learning curves, importance of the columns. Then comes
    what `report` shows of each run.
    """
    from ffnn_gpu.cli.record import record_of
    from ffnn_gpu.report import comparison_page, findings_of

    _require_writable(output)
    _require_several(runs)
    found = [findings_of(record_of(run, device)) for run in runs]
    _write(output, comparison_page(found), found, quiet, as_json)


def after_training(config: TrainConfig, done: "Result", announce: Announce) -> None:
    """Write the report of a run that has just ended, from the data that it has read."""
    from ffnn_gpu.cli import run_folder
    from ffnn_gpu.cli.record import courses_of, size_of
    from ffnn_gpu.report import Record, findings_of, run_page

    if done.history.interrupted:
        announce(f"no report of an interrupted run; write one by `ffnn-gpu report {done.folder}`")
        return
    folder, name = done.folder, str(done.folder)
    courses, size = courses_of(folder, done.history, []), size_of(folder)
    config = msgspec.structs.replace(run_folder.located(config), model=done.report["model"])
    record = Record(
        name, config, done.report, done.history, courses, done.model, done.training,
        done.split, size,
    )  # fmt: skip
    path = folder / run_folder.REPORT
    atomic_file.write(path, run_page(findings_of(record)).encode("utf-8"))
    announce(f"report {path}")


def _write(path: str, page: str, found: list["Findings"], quiet: bool, as_json: bool) -> None:
    """Write a page, and print where and what it lacks."""
    content = page.encode("utf-8")
    for each in [] if quiet else found:
        for omission in each.omitted:
            print_error_line(f"{each.name} lacks {omission.part}: {omission.reason}")
    if path == STDOUT:
        with standard_streams.standard_output() as file:
            file.buffer.write(content)
        return
    atomic_file.write(Path(path), content)
    omitted = {each.name: {omission.part: omission.reason for omission in each.omitted} for each in found}
    written = {"report": path, "bytes": len(content), "omitted": omitted}
    print_result(dumps(written) if as_json else f"report {path} ({len(content):,} bytes)")


def _require_writable(path: str) -> None:
    """Raise ConfigurationError for a folder, and for another ending: it might be a file of another kind."""
    if path == STDOUT:
        standard_streams.require_output()
        return
    if not path.lower().endswith(ENDINGS):
        raise ConfigurationError(f"--output: a report ends with .html, not {path}")
    if Path(path).is_dir():
        raise ConfigurationError(f"--output: {path} is a folder; give the name of a file")


def _require_several(runs: tuple[str, ...]) -> None:
    if len({Path(run).resolve() for run in runs}) < max(2, len(runs)):
        raise ConfigurationError(
            f"compare needs at least two different run folders; given: {', '.join(runs)}"
        )
