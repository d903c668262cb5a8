"""The flags of the settings, which several commands share."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from ffnn_gpu.cli.settings import FIELDS, OPPOSITES, help_of

quiet_option = click.option("--quiet", is_flag=True, help="print only errors and the result")


def flags_of(names: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds a flag for each of these settings; a flag that is not given is None."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            flag = f"--{name.replace('_', '-')}"
            text, metavar = help_of(name)
            if metavar:
                command = click.option(flag, name, metavar=metavar, help=text)(command)
            else:
                off = OPPOSITES.get(name, f"--no-{flag[2:]}")
                command = click.option(f"{flag}/{off}", name, default=None, help=text)(command)
        return command

    return add


settings = flags_of([name for name in FIELDS if name != "data"])
