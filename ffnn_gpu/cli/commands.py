"""Define `ffnn-gpu train | evaluate | predict | inspect | info`, add the others: parse, call, print.

    exit code   0 done   1 run failed   2 usage or configuration   3 data or model file   4 device
                5 out of memory
                128 + n ended by signal n (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP), after saving

Results go to standard output, everything else to standard error. FFNN_GPU_DEBUG=1 prints tracebacks. Each
command imports what it needs when it runs, which keeps --help fast.

Under mpiexec, all processes share one training run in `train`, and rank 0 alone prints `info`. `evaluate`,
`predict`, `export`, `report` and `compare` run in each process separately.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from ffnn_gpu import __version__
from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.checks import counted
from ffnn_gpu.cli import report_command, standard_streams
from ffnn_gpu.cli.exit_codes import CommandGroup, announcer, print_error_line, print_result, ranks_of
from ffnn_gpu.cli.export import export_command
from ffnn_gpu.cli.flags import flags_of, quiet_option, settings
from ffnn_gpu.cli.settings import OF_COLUMNS, OF_SOURCES, TrainConfig, given_values, resolve, source_settings
from ffnn_gpu.cli.tune_command import tune_command

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.group(cls=CommandGroup, invoke_without_command=True, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="ffnn-gpu", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> int | None:
    """Train and use feed-forward neural networks on a GPU or a CPU.

    Start with `ffnn-gpu train digits`.
    """
    if ctx.invoked_subcommand is not None:
        return None
    print_error_line(ctx.get_help())
    return 2


@main.command("train")
@click.argument("data", required=False)
@settings
@click.option(
    "--config", "file", metavar="RUN.TOML", help="read settings from this file, such as a run's config.toml"
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="change one setting; VALUE is TOML or a word; repeatable",
)
@click.option(
    "--resume", is_flag=True, help="continue the run in --out exactly where it stopped, with its settings"
)
@click.option("--overwrite", is_flag=True, help="replace the run in --out")
@click.option(
    "--rank-logs", metavar="FOLDER", help="write a log file per process there: rank-0.log, rank-1.log, …"
)
@click.option(
    "--watch", is_flag=True, help="serve the page about the run on this machine while it is trained"
)
@click.option("--report", "with_report", is_flag=True, help="write report.html into the run folder too")
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def train_command(
    data: str | None,
    file: str | None,
    assignments: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    rank_logs: str | None,
    watch: bool,
    with_report: bool,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Train on DATA and write a run folder.

    DATA is a bundled set (digits, breast_cancer, wine, iris, diabetes), a table, a .npy or .npz file, or a
    folder of tables, of .npy files or of IDX files such as MNIST's. A table is a text file (.csv, .tsv, …,
    also .gz and .zst), .parquet, .jsonl, a table of a DuckDB database (sales.duckdb:orders), a pattern such
    as 'sales/*.parquet', or - for standard input. --query takes the place of DATA.

    A table trains an ensemble of networks, and an array one network. A setting of one network, such as
    --hidden or --epochs, trains one network in every case. --model decides.

    If a setting is given in several places, the later one wins: --config, FFNN_GPU_DEVICE (the device),
    --set, its own flag.

    \b
    To train with 4 processes:
      mpiexec -n 4 python -m mpi4py -m ffnn_gpu train DATA
    """
    from ffnn_gpu.cli import messages, run_folder, train
    from ffnn_gpu.distributed.rank_zero import on_rank_zero
    from ffnn_gpu.training.interrupt import Interrupted
    from ffnn_gpu.training.rank_logs import open_log

    saved = run_folder.config_to_resume(flags["out"]) if resume else None
    given = given_values({"data": data, **flags}, assignments, file, saved)
    config = TrainConfig(**given)
    ranks = ranks_of(config.device)
    announce, more = announcer(ranks, quiet), dict[str, Any]()
    if rank_logs is not None:
        open_log(rank_logs, ranks)
    try:
        with ExitStack() as ends:
            if watch:
                from ffnn_gpu.cli.watching import watched

                more["started"] = ends.enter_context(watched(announcer(ranks, False))).begin
            result = train.train(
                config,
                given=given,
                resume=resume,
                overwrite=overwrite,
                announce=announce,
                verbose=0 if quiet else 1,
                communicator=ranks,
                **more,
            )
    except Interrupted as error:
        print_error_line(f"{error}; nothing was written")
        return 128 + error.number
    try:
        if ranks.rank == 0:
            report = {"folder": str(result.folder), **result.report}
            lines = messages.result_lines(result.folder, result.report, quiet)
            print_result(dumps(report) if as_json else "\n".join(lines))
    finally:  # also if standard output is a full disk
        if with_report:
            on_rank_zero(ranks, lambda: report_command.after_training(config, result, announce))
    return 128 + result.history.interrupted if result.history.interrupted else 0


@main.command("evaluate")
@click.argument("model")
@click.argument("data", required=False)
@click.option(
    "--target", metavar="COLUMN", help="target column of DATA; default: the one that the model was trained on"
)
@click.option(
    "--metrics",
    metavar="NAME,NAME",
    default="",
    help="accuracy, f1_macro, rmse, r2, …; default: the metrics of the training run",
)
@click.option("--unweighted", is_flag=True, help="leave out the weights that the model was trained with")
@click.option("--device", metavar="DEVICE", default="auto", help="auto, numpy, cupy or cupy:N")
@flags_of(OF_SOURCES)
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="print the metrics as JSON")
def evaluate_command(
    model: str,
    data: str | None,
    target: str | None,
    metrics: str,
    unweighted: bool,
    device: str,
    quiet: bool,
    as_json: bool,
    **source: Any,
) -> None:
    """Print the metrics of MODEL on DATA.

    MODEL is a run folder or a checkpoint. If DATA has a test set of its own, only that is used. Without DATA,
    the test set is used that the training run held out. Rows have the weights of the column that the training
    run was given by --weight, if DATA has it.
    """
    from ffnn_gpu.cli import messages, reading, train
    from ffnn_gpu.estimators.model import Model
    from ffnn_gpu.estimators.recipe import evaluated
    from ffnn_gpu.estimators.split import Part

    standard_streams.require_output()
    how = source_settings(source)
    loaded = Model.load(model, device)
    if data is None and not how["query"]:
        part, names = train.held_out(model, loaded)
        line = f"{counted(len(part.x), 'row')}, the test set that the run held out of {loaded.data}"
    else:
        dataset, x, y = reading.read_labelled(data or "", target, loaded, how)
        part, names = Part(x, y, reading.weights_for(loaded, x)), dataset.feature_names
        line = messages.evaluation_line(loaded, dataset, x)
    if unweighted:
        part = part._replace(weight=None)
    if not quiet:
        if said := messages.table_line(part.x):
            print_error_line(said)
        print_error_line(line)
        if said := messages.weight_line(loaded, part, unweighted):
            print_error_line(said)
        for said in messages.unfamiliar_lines(loaded, part.x):
            print_error_line(said)
    row = evaluated(loaded, part, names, metrics=[name for name in metrics.split(",") if name])
    print_result(dumps({**row, "rows": len(part.x)}) if as_json else "\n".join(messages.metric_lines(row)))


@main.command("predict")
@click.argument("model")
@click.argument("rows", default="-", metavar="[INPUT]")
@click.option(
    "--output", metavar="FILE", help="a .csv, .parquet, .jsonl or .npy file; default: CSV on standard output"
)
@click.option(
    "--keep",
    metavar="COLUMN,COLUMN",
    multiple=True,
    help="write these columns of INPUT in front of the predictions, as they are",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="add the probability of each class; a .npy file then holds only these",
)
@click.option("--device", metavar="DEVICE", default="auto", help="auto, numpy, cupy or cupy:N")
@flags_of(OF_SOURCES)
@quiet_option
def predict_command(
    model: str,
    rows: str,
    output: str | None,
    keep: tuple[str, ...],
    probabilities: bool,
    device: str,
    quiet: bool,
    **source: Any,
) -> None:
    """Predict the target for each row of INPUT.

    MODEL is a run folder or a checkpoint. INPUT is a table (such as .csv), a .npy file, a folder of .npy
    files, a bundled set, or - for a table on standard input. Columns are found by the names in the header,
    in any order; other columns are ignored.
    """
    from ffnn_gpu.checkpoints import atomic_file
    from ffnn_gpu.cli import messages, reading
    from ffnn_gpu.estimators.model import Model
    from ffnn_gpu.tables import answers as files

    if output is None:
        standard_streams.require_output()
    else:
        files.require_writable(output, keep)
    how = source_settings(source)
    loaded = Model.load(model, device)
    x, names = reading.read_rows("" if how["query"] and rows == "-" else rows, loaded, how)
    kept = reading.kept_columns(x, names, keep, rows)
    if not quiet and (said := messages.table_line(x)):
        print_error_line(said)
    if not quiet and names and loaded.feature_names and not loaded.matches(names):
        print_error_line(messages.IN_ORDER)
    for said in [] if quiet else messages.unfamiliar_lines(loaded, x):
        print_error_line(said)
    cut = 0 if quiet else loaded.count_cut(x, names)
    if cut:
        print_error_line(messages.cut_line(cut, loaded.limit))
    outputs = loaded.outputs(x, names)
    chances = loaded.task.probabilities(outputs) if probabilities else None
    columns = files.answer_columns(loaded.task.decode(outputs), chances, loaded.task.columns)
    if probabilities and output is not None and output.lower().endswith(".npy"):
        columns = {name: column for name, column in columns.items() if not name.startswith("prediction")}
    columns = reading.side_by_side(kept, columns)
    if output is None:
        with standard_streams.standard_output() as file:
            files.write_csv(file.buffer, columns)
        return
    with atomic_file.replacing(Path(output)) as half:
        files.write(half, columns, Path(output).suffix.lower())


main.add_command(tune_command)
main.add_command(export_command)
main.add_command(report_command.report_command)
main.add_command(report_command.compare_command)


@main.command("inspect")
@click.argument("data", required=False)
@flags_of((*OF_COLUMNS, *OF_SOURCES))
@click.option("--config", "file", metavar="RUN.TOML", help="read these settings from this file")
@click.option("--json", "as_json", is_flag=True, help="print the inspection as JSON")
def inspect_command(data: str | None, file: str | None, as_json: bool, **flags: Any) -> None:
    """Print what the columns of DATA are, why, and what a network reads of them.

    DATA is a table such as a .csv file. Warnings name columns that may be leaks, copies of rows, rare classes
    and whatever `train` would refuse.
    """
    from ffnn_gpu.cli import inspection

    standard_streams.require_output()
    found = inspection.inspection_of(resolve({"data": data, **flags}, file=file))
    print_result(dumps(found.to_json()) if as_json else "\n".join(inspection.lines(found)))


@main.command("info")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="print the information as JSON")
def info_command(model: str | None, as_json: bool) -> None:
    """Print versions, backend and machine; with MODEL, what that model is.

    Also printed: why the backend was chosen and, with several processes, the number of ranks. MODEL is a run
    folder or a checkpoint.
    """
    from ffnn_gpu.cli import info

    ranks = ranks_of("auto")
    if ranks.rank:
        return
    standard_streams.require_output()
    if model is not None:
        from ffnn_gpu.cli import model_info

        known = model_info.information(model)
        print_result(dumps(known) if as_json else "\n".join(model_info.lines(known)))
        return
    found = info.information(ranks)
    print_result(dumps(found) if as_json else "\n".join(info.lines(found)))
