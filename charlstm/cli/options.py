"""Options that several commands share, which of them go together, and how they become settings."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from charlstm.cli.streams import terminal

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


class Rule(NamedTuple):
    """An option that goes with none of some others, or, where `needs` is true, only with one."""

    option: str
    others: Iterable[str]
    message: str
    """With {others} for those of them that are given, {first} for the first of these."""
    needs: bool = False


def given() -> set[str]:
    """The options on the command line, each by its first long name. Those that have their value
    from the environment or by default are not among them."""
    ctx = click.get_current_context()
    return {
        next(name for name in option.opts if name.startswith("--"))
        for option in ctx.command.params
        if isinstance(option, click.Option)
        and ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    }


def check_options(rules: Iterable[Rule], error: type[Exception] = click.UsageError) -> None:
    """Raise an error for the first rule that the command line breaks."""
    options = given()
    for rule in rules:
        others = sorted(options.intersection(rule.others))
        if rule.option in options and bool(others) != rule.needs:
            raise error(rule.message.format(first=(others or [""])[0], others=", ".join(others)))


def sources_or_stdin(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The files that are named; with none, standard input where something is piped into it."""
    if names:
        return names
    if sys.stdin is None or terminal(sys.stdin):
        raise click.UsageError(f"no {what} is given; name a text file, or pipe one in")
    return ("-",)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


def unescape(text: str) -> str:
    """Replace the escapes that are awkward to type in a shell: \\n, \\t, \\r, \\0 and \\\\."""
    return re.sub(r"\\([ntr0\\])", lambda match: _ESCAPES[match[1]], text)


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
