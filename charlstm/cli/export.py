"""charlstm export: a model in the format of another program."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click

from charlstm.cli.options import debug_option, option
from charlstm.cli.streams import check_stdout, notice, printable, write
from charlstm.errors import UsageError

FORMATS = ("safetensors", "torch", "onnx", "json")
"""What a model can be exported to: the keys of `charlstm.exchange.exports.FORMATS`."""


@click.command()
@click.argument("file", default="charlstm.npz", envvar="CHARLSTM_MODEL", metavar="[MODEL]")
@option("-m --model FILE", "The same as MODEL.")
@option("--to FORMAT", "The format of the export.", type=click.Choice(FORMATS), required=True)
@option("-o --output FILE", "Where it goes; -: to standard output.", required=True)
@option("--force", "Replace the output.")
@debug_option
def export(**params: Any) -> None:
    """Write a model for other programs, with its vocabulary and configuration.

    \b
    safetensors   the weights under the names of a checkpoint
    torch         the same under PyTorch's names; prints the lines that load it
    onnx          a graph that reads ids and gives logits
    json          the weights as plain numbers
    """
    from charlstm.api import load
    from charlstm.exchange.exports import export_model, parts
    from charlstm.exchange.pytorch import loading
    from charlstm.storage.files import check_apart

    asked = SimpleNamespace(**params)
    path = asked.file if asked.model is None else asked.model
    torch = asked.to == "torch"
    if asked.output == "-":
        if torch:
            raise UsageError("standard output has the lines that load the file; name it with -o")
        check_stdout("an export")
        for part in parts(load(path), asked.to):
            write(part)
        return
    check_apart("the output", asked.output, [("the model", path)])
    language = load(path)
    export_model(language, asked.output, asked.to, force=asked.force)
    notice(f"wrote {printable(asked.output)}")
    if torch:
        write(loading(language.checkpoint.model().shape, asked.output))
