"""Options that several commands share, and how options become settings."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from charlstm.config.schema import Setting

F = TypeVar("F", bound=Callable[..., Any])


class Utf8(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Text that is UTF-8 whatever the locale makes of the command line."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return os.fsencode(value).decode("utf-8")
        except UnicodeError:
            self.fail("is not valid UTF-8", param, ctx)


class Number(click.FloatRange):
    """A number in a range. NaN, which is in none, is refused, too."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(dict)["debug"] = True


def debug_option(f: F) -> F:
    """--debug, for every command."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )(f)


def config_options(f: F) -> F:
    """-c and --set, for the commands that have settings."""
    f = click.option(
        "--set",
        "sets",
        metavar="KEY=VALUE",
        multiple=True,
        help="One setting over the configuration's, such as model.hidden=200; repeatable.",
    )(f)
    return click.option(
        "-c",
        "--config",
        "configs",
        metavar="NAME|FILE",
        multiple=True,
        help="A bundled configuration's name or a YAML file; repeatable, later ones on top.",
    )(f)


def model_option(f: F) -> F:
    """-m, for the commands that read a checkpoint."""
    return click.option(
        "-m",
        "--model",
        metavar="FILE",
        default="charlstm.npz",
        envvar="CHARLSTM_MODEL",
        show_default=True,
        help="The checkpoint (environment: CHARLSTM_MODEL); -: from standard input.",
    )(f)


def settings(
    configs: tuple[str, ...], sets: tuple[str, ...], options: dict[str, tuple[str, Any]]
) -> list[Setting]:
    """All settings of a command line, the strongest last.

    `options` maps an option's name to (key, value as given); None means not given.
    """
    from charlstm.config.schema import Setting
    from charlstm.config.sources import parse_setting, read_config, setting_from_option

    gathered = [setting for name in configs for setting in read_config(name)]
    gathered += [parse_setting(text) for text in sets]
    for option, (key, value) in options.items():
        if value is None:
            continue
        if isinstance(value, str):
            gathered.append(setting_from_option(key, value, option))
        else:
            gathered.append(Setting(key, value, option))
    return gathered
