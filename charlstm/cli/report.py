"""charlstm report: a page that shows what a model is and how it works."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.models import load_models, model_files
from charlstm.cli.options import Rule, Utf8, check_options, debug_option, offer, option
from charlstm.cli.streams import check_one_user, notice, printable, terminal, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel

RULES = (Rule("--from", ["--text"], "--from is a place in --text; give that too", needs=True),)


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1, shell_complete=offer("models"))
@option(
    "-m --model FILE",
    "The same as MODEL (environment: CHARLSTM_MODEL; else charlstm.npz); the first is shown, the "
    "others stand beside it.",
    multiple=True,
)
@option("--text FILE|-", "A text to look at; without one, the model writes it itself.")
@option(
    "--from N",
    "Begin the excerpt N characters, bytes or words into the text (default: where its held-out "
    "part begins, if it is the corpus).",
    type=click.IntRange(0),
)
@option(
    "--length N",
    "Characters, bytes or words of the excerpt.",
    type=click.IntRange(2, 20_000),
    default=2_000,
    show_default=True,
)
@option("--log FILE", "The log of the training, for all curves and the samples.")
@option("-o --output FILE", "The page (default: the model's name with .html); -: standard output.")
@option(
    "--lang [en|ko]",
    "The language in which it opens; both are in it.",
    type=click.Choice(["en", "ko"]),
    default="en",
    show_default=True,
)
@option("--title TEXT", "What stands above it (default: the model's name).", type=Utf8())
@option("-q --quiet", "No progress, errors only.")
@debug_option
def report(**params: Any) -> None:
    """Make a page that shows what a model is and how it works, to open in a browser.

    It is one file that loads nothing from elsewhere, in English and Korean. With several models,
    the first is shown and the others are compared with it.
    """
    asked = SimpleNamespace(**params)
    check_options(RULES)
    files = model_files((*asked.models, *asked.model), mixed=False)
    readers = [("--text", asked.text), ("--log", asked.log)]
    check_one_user("input", [*(("MODEL", file) for file in files), *readers])
    target = _target(asked.output, files[0])
    from charlstm.report.build import check_installed
    from charlstm.storage.files import claim

    check_installed()
    if target == "-":
        write(_page(asked, files))
        return
    _check_target(target, files, readers)
    lock = claim(target)
    try:
        _write(target, _page(asked, files))
    finally:
        lock.release()
    if not asked.quiet:
        size = os.path.getsize(target) / 1e6
        notice(f"wrote {target} ({size:.1f} MB); open it in a browser")


def _target(output: str | None, model: str) -> str:
    """The file to write; by default beside the model."""
    if output is not None:
        return output
    if model == "-":
        raise UsageError("the model has no name for the page; name the page with -o")
    return str(Path(model).with_suffix(".html"))


def _check_target(
    target: str, models: Sequence[str], others: Sequence[tuple[str, str | None]]
) -> None:
    """Refuse to write over what is read, and over what is no page."""
    from charlstm.report.page import is_page
    from charlstm.storage.files import check_apart, check_kind

    check_kind(target)
    read = [*(("the model", file) for file in models)]
    read += [(f"the file of {option}", file) for option, file in others if file is not None]
    check_apart("the report", target, read)
    try:
        replaceable = not os.path.exists(target) or is_page(target)
    except OSError as e:
        raise UsageError(f"{target}: exists and cannot be read: {e.strerror}") from None
    if not replaceable:
        raise UsageError(f"{target} exists and is not a page by charlstm; name another file (-o)")


def _page(asked: SimpleNamespace, files: Sequence[str]) -> str:
    """The page of the models in some files."""
    from tqdm import tqdm

    from charlstm.report.build import sections
    from charlstm.report.learning import parsed
    from charlstm.report.page import SECTIONS, page
    from charlstm.text.reading import name_of, read_text

    languages = named(load_models(files, []))
    first = next(iter(languages.values()))
    text = None if asked.text is None else first.read(asked.text, notice)
    log = None
    if asked.log is not None:
        log = parsed(
            read_text(asked.log, "utf-8", notice).rstrip("\n").split("\n"), name_of(asked.log)
        )
    excerpt = {"start": getattr(asked, "from"), "length": asked.length}
    made, silent = {}, asked.quiet or not terminal(sys.stderr)
    with tqdm(total=len(SECTIONS), unit="section", leave=False, disable=silent) as bar:
        for name, data in sections(languages, text, log, **excerpt):
            made[name] = data
            bar.set_description_str(name, refresh=False)
            bar.update()
    title = next(iter(languages)) if asked.title is None else asked.title
    return page(made, lang=asked.lang, title=title)


def named(languages: Mapping[str, LanguageModel]) -> dict[str, LanguageModel]:
    """The models by what the page calls them: their files' names without folder and ending, where
    that tells them apart."""
    stems = [Path(file).stem for file in languages]
    names = stems if len(set(stems)) == len(stems) else list(languages)
    return dict(zip(map(printable, names), languages.values(), strict=True))


def _write(target: str, text: str) -> None:
    from charlstm.storage.files import replacing

    with replacing(target) as file:
        file.write(text.encode("utf-8"))
