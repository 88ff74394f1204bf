"""charlstm export: a model in the format of another program."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from charlstm.cli.options import Utf8, debug_option, model_argument, one_model, option
from charlstm.cli.streams import check_stdout, notice, printable, write
from charlstm.errors import UsageError

FORMATS = ("safetensors", "torch", "onnx", "json", "html")
"""What a model can be exported to: the keys of `charlstm.exchange.exports.FORMATS`."""


@click.command()
@model_argument("MODEL")
@option("--to FORMAT", "The format of the export.", type=click.Choice(FORMATS), required=True)
@option(
    "-o --output FILE",
    "Where it goes; -: to standard output (default, for a page: the model's name with .html).",
)
@option("--force", "Replace the output.")
@option(
    "--lang [en|ko]",
    "The language in which a page opens; both are in it (default en).",
    type=click.Choice(["en", "ko"]),
)
@option("--title TEXT", "What stands above a page (default: the model's name).", type=Utf8())
@debug_option
def export(**params: Any) -> None:
    """Write a model for other programs, with its vocabulary and configuration.

    \b
    safetensors   the weights under the names of a checkpoint
    torch         the same under PyTorch's names; prints the lines that load it
    onnx          a graph that reads ids and gives logits
    json          the weights as plain numbers
    html          a page in which the model runs, to open in a browser
    """
    from charlstm.api import load
    from charlstm.exchange.exports import export_model, parts
    from charlstm.exchange.pytorch import loading
    from charlstm.storage.files import check_apart

    asked = SimpleNamespace(**params)
    path = one_model(asked.file, asked.model)
    torch, options = asked.to == "torch", _options(asked, path)
    if asked.output == "-":
        if torch:
            raise UsageError("standard output has the lines that load the file; name it with -o")
        check_stdout("an export")
        for part in parts(load(path), asked.to, **options):
            write(part)
        return
    check_apart("the output", asked.output, [("the model", path)])
    language = load(path)
    export_model(language, asked.output, asked.to, force=asked.force, **options)
    notice(f"wrote {asked.output}")
    if torch:
        write(loading(language.checkpoint.model().shape, asked.output))


def _options(asked: SimpleNamespace, path: str) -> dict[str, str]:
    """The options of the format; what only a page has is refused elsewhere. Names the output."""
    if asked.to != "html":
        for name in ("lang", "title"):
            if getattr(asked, name) is not None:
                raise click.UsageError(f"--{name} is for a page; leave it out, or add --to html")
        if asked.output is None:
            raise click.UsageError("the output has no name; give it one with -o/--output")
        return {}
    if asked.output is None:
        if path == "-":
            raise click.UsageError("the model has no name for the page; name the page with -o")
        asked.output = str(Path(path).with_suffix(".html"))
    stem = Path(asked.output if path == "-" else path).stem
    title = printable(stem) if asked.title is None else asked.title
    return {"lang": asked.lang or "en", "title": title}
