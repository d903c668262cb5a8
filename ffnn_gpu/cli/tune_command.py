"""`ffnn-gpu tune`: search for settings, and leave the best run in a folder."""

from typing import Any

import click

from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.cli.exit_codes import announcer, print_error_line, print_result, ranks_of
from ffnn_gpu.cli.flags import flags_of, quiet_option
from ffnn_gpu.cli.settings import FIELDS, given_settings, resolve
from ffnn_gpu.errors import ConfigurationError

SETTINGS = [name for name in FIELDS if name not in ("data", "metric")]  # a search has its own --metric


@click.command("tune")
@click.argument("data", required=False)
@click.option("--trials", type=int, metavar="N", help="trials of the whole search, resumed ones included")
@click.option("--time", metavar="TIME", help="end after this time: 90 (seconds), 90s, 10m, 1h or 1h30m")
@click.option(
    "--metric", metavar="NAME", help="what is compared: loss or a metric; default: accuracy, for numbers rmse"
)
@click.option(
    "--search",
    metavar="NAME,NAME",
    help="the settings to search: hidden, activation, normalization, dropout, lr, weight_decay, batch_size; "
    "default: those that are not given",
)
@flags_of(SETTINGS)
@click.option("--config", "file", metavar="RUN.TOML", help="read settings from this file and begin with them")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="change one setting; VALUE is TOML or a word; repeatable",
)
@click.option("--resume", is_flag=True, help="continue the search in --out, with its settings")
@click.option("--overwrite", is_flag=True, help="replace what is in --out")
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def tune_command(
    data: str | None,
    trials: int | None,
    time: str | None,
    metric: str | None,
    search: str | None,
    file: str | None,
    assignments: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Search for the settings with which DATA is learnt best, by Optuna.

    Each trial trains one network, as `train --model mlp` does, and is compared by a metric of the validation
    rows. The first trial has the default settings, or those of --config. Trials that fall behind are stopped
    early. The best trial is kept in a run folder, whose config.toml `train --config` reads. The test rows are
    evaluated at the end.

    A setting that is given by a flag or --set is the same in all trials. --trials, --time or both end the
    search. Ctrl-C ends it too, with the best so far.

    \b
      ffnn-gpu tune sales.csv --target price --trials 50 --time 10m
    """
    from ffnn_gpu.cli import tune
    from ffnn_gpu.estimators.model_choice import without_ensemble
    from ffnn_gpu.estimators.tuning.limits import Limits
    from ffnn_gpu.training.interrupt import Interrupted

    limits = Limits.of(trials, time)
    ranks = ranks_of(flags["device"] or "auto")
    if ranks.size > 1:
        raise ConfigurationError(f"tune runs in one process, not in {ranks.size}; start it without mpiexec")
    begun = tune.start_of(flags["out"]) if resume else None
    config = resolve({"data": data, **flags}, assignments=assignments, file=file, resumed=begun)
    given = given_settings(flags, assignments)
    config, left = without_ensemble(config, given)
    wanted = None if search is None else [name.strip() for name in search.split(",") if name.strip()]
    asked, announce = tune.Asked(metric, wanted, given), announcer(ranks, quiet)
    if left:
        announce(f"a search trains one network, and leaves out {', '.join(left)} of {file}")
    try:
        done = tune.tune(config, limits, asked, resume=resume, overwrite=overwrite, announce=announce)
    except Interrupted as error:
        print_error_line(str(error))
        return 128 + error.number
    report = {"folder": str(done.folder), **done.report}
    print_result(dumps(report) if as_json else "\n".join(tune.result_lines(done, quiet)))
    return 128 + done.interrupted if done.interrupted else 0
