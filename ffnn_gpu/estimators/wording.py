"""Messages about tables in the words of the caller.

Why here: `ffnn_gpu.tables` names the options of the command, which has one for each remedy. In `train_table`
they are arguments. The estimators have few of these arguments, so a message names what to do to the frame.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.settings import FIELDS, parts_of

# options → what a caller of `train_table` writes
ARGUMENTS = {f"--{name.replace('_', '-')}": name for name in FIELDS}
ARGUMENTS |= {"--day-first": "day_first=True", "--month-first": "day_first=False"}
OPTION = re.compile(rf"(?<![\w'])({'|'.join(map(re.escape, ARGUMENTS))})(?![\w'-])")

VALUE = r"((?:'[^']*'|\"[^\"]*\"|[^\s'\";])+?)(?=[.;)]?(?:\s|$))"  # of an option, as a shell reads it
LIST = re.compile(rf"(?<![\w'-])--(categorical|number|drop|missing) (?!names it|for them){VALUE}")
WORD = re.compile(rf"(?<![\w'-])--(task|decimal|class-weight) {VALUE}")
# remedies with options → what a caller of an estimator does
REMEDIES = {
    "--categorical names it": "categorical_features names it",
    "--number names it": "it holds numbers alone",
    "--day-first or --month-first decides": "a column of dates instead of texts decides",
    "use --missing for them": "write None instead",
    rf"use --missing {VALUE}": "write None instead",
    rf"use --number {VALUE}": "convert the column",
    rf"(?:use )?--drop {VALUE}": "leave the column out",
    "use --decimal ,": "convert the column",
    "--class-weight balanced": "class_weight='balanced'",
    "Write plain numbers in the file": "Write plain numbers",
    "; `ffnn-gpu inspect` lists all": "",
}
REMEDY = {re.compile(rf"(?<![\w'-]){pattern}"): said for pattern, said in REMEDIES.items()}
CATEGORICAL = re.compile(rf"(?<![\w'-])--categorical {VALUE}")


def in_python(message: str) -> str:
    """Return a message with the arguments of `train_table` in place of the options of the command."""
    message = LIST.sub(lambda option: f"{option[1]}={_names(option[2])}", message)
    message = WORD.sub(lambda option: f"{ARGUMENTS['--' + option[1]]}={shlex.split(option[2])[0]!r}", message)
    return OPTION.sub(lambda option: ARGUMENTS[option[0]], message)


def in_estimators(message: str) -> str:
    """Return a message with arguments of an estimator, or what to do to X, in place of options."""
    for pattern, said in REMEDY.items():
        message = pattern.sub(said, message)
    return CATEGORICAL.sub(lambda option: f"categorical_features={_names(option[1])}", message)


@contextmanager
def errors_in(words: Callable[[str], str]) -> Iterator[None]:
    """While entered, messages of errors are in these words, such as `in_python`."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        raise type(error)(words(str(error))) from error


def _names(value: str) -> list[str]:
    """Return the names of columns, or the cells, in the value of an option as a shell reads it."""
    return parts_of("".join(shlex.split(value)))
