"""Options that several commands share, which of them go together, and how they become settings."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from types import SimpleNamespace
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

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return os.fsencode(value).decode("utf-8")
        except UnicodeError:
            self.fail("is not valid UTF-8", param, ctx)


class Number(click.FloatRange):
    """A number in a range; NaN is in none."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def offer(kind: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """What shells offer for a value, by a function of `charlstm.cli.offers`, which nothing else
    needs."""

    def complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[Any]:
        items: list[Any] = getattr(import_module("charlstm.cli.offers"), kind)(begun)
        return items

    return complete


OFFERS = {
    "FILE": "files",
    "FILE|-": "files",
    "NAME|FILE": "configurations",
    "KEY=VALUE": "settings",
}
"""What shells offer for the value of an option, by what stands for it in the help."""


def option(usage: str, help: str, **more: Any) -> Callable[[F], F]:
    """An option, written as in a manual: `-o --output FILE` takes a value, `--force` is a flag."""
    names = usage.split()
    if names[-1].startswith("-"):
        more["is_flag"] = True
    else:
        more["metavar"] = value = names.pop()
        kind = "models" if "--model" in names else OFFERS.get(value)
        if kind is not None:
            more["shell_complete"] = offer(kind)
    return click.option(*names, help=help, **more)


def model_argument(metavar: str) -> Callable[[F], F]:
    """A model, as the argument that `metavar` stands for, or with -m: the parameters `file` and
    `model`, of which `one_model` takes the one that is meant."""
    argument = click.argument(
        "file",
        default="charlstm.npz",
        envvar="CHARLSTM_MODEL",
        metavar=f"[{metavar}]",
        shell_complete=offer("models"),
    )

    def decorate(f: F) -> F:
        return argument(option("-m --model FILE", f"The same as {metavar}.")(f))

    return decorate


def one_model(file: str, model: str | None) -> str:
    """The model that a command with `model_argument` reads."""
    source = click.get_current_context().get_parameter_source("file")
    if model is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(f"two models, {file} and -m {model}; name one")
    return file if model is None else model


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(dict)["debug"] = True


debug_option = option(
    "--debug", "Show the traceback of an error.", expose_value=False, callback=_set_debug
)


def configurable(f: F) -> F:
    """-c, --set and --debug, for the commands that have settings."""
    configs = "A bundled configuration's name or a YAML file; repeatable, later ones on top."
    sets = "One setting over the configuration's, such as model.hidden=200; repeatable."
    f = option("--set KEY=VALUE", sets, multiple=True)(debug_option(f))
    return option("-c --config NAME|FILE", configs, multiple=True)(f)


class Rule(NamedTuple):
    """An option that goes with none of some others, or, where `needs` is true, only with one."""

    option: str
    others: Iterable[str]
    message: str  # with {others} for those of them that are given, {first} for the first of these
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


def or_stdin(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The files that are named; with none, standard input where something is piped into it."""
    if names:
        return names
    if sys.stdin is None or terminal(sys.stdin):
        raise click.UsageError(f"no {what} is given; name a text file, or pipe one in")
    return ("-",)


def settings(asked: SimpleNamespace, section: str, names: Iterable[str]) -> list[Setting]:
    """All settings of a command line, the strongest last: those of -c, of --set, and of the options
    in `names`, which are keys of a section; None means not given."""
    from charlstm.config.schema import Setting
    from charlstm.config.sources import parse_setting, read_config, setting_from_option

    gathered = [setting for name in asked.config for setting in read_config(name)]
    gathered += [parse_setting(text) for text in asked.set]
    for name in names:
        key, value, where = f"{section}.{name}", getattr(asked, name), f"--{name.replace('_', '-')}"
        if isinstance(value, str):
            gathered.append(setting_from_option(key, value, where))
        elif value is not None:
            gathered.append(Setting(key, value, where))
    return gathered
