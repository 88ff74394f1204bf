"""charlstm import: a checkpoint of another program's model."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import click

from charlstm.cli.options import debug_option, offer, option
from charlstm.cli.streams import check_one_user, check_stdout, notice, write


@click.command("import")
@click.argument("file", shell_complete=offer("files"))
@option(
    "-o --output -m --model FILE",
    "Where the model goes (environment: CHARLSTM_MODEL); -: to standard output.",
    default="charlstm.npz",
    envvar="CHARLSTM_MODEL",
    show_default=True,
)
@option(
    "--vocabulary FILE",
    "For a FILE without a vocabulary: its characters in the order of their ids; or, where the name "
    "ends in .json, a list of units, or an object with their ids.",
)
@option("--force", "Replace the output.")
@debug_option
def import_(**params: Any) -> None:
    """Make a checkpoint of a safetensors file (-: standard input): an export, or a model of
    PyTorch's modules.

    It samples and scores like any other. Training it on (train --resume) begins with these weights
    and a fresh optimizer.
    """
    from charlstm.exchange.imports import import_model
    from charlstm.storage.checkpoint import stream_checkpoint
    from charlstm.storage.files import check_apart

    asked = SimpleNamespace(**params)
    inputs = {"the file": asked.file, "the vocabulary": asked.vocabulary}
    check_one_user("input", [("FILE", asked.file), ("--vocabulary", asked.vocabulary)])
    output = None if asked.output == "-" else asked.output
    if output is None:
        check_stdout("a model")
    else:
        check_apart("the output", output, [(w, path) for w, path in inputs.items() if path])
    language = import_model(asked.file, output, vocabulary=asked.vocabulary, force=asked.force)
    m, v = language.config.model, language.vocabulary
    if m.cell == "rnn" and asked.vocabulary is not None:
        notice("the RNN is taken for one with tanh, as PyTorch's are by default")
    wrote = f"{m.cell}, {len(language.checkpoint.best):,} parameters, {len(v):,} {v.name}s"
    if output is None:
        stream_checkpoint(write, language.checkpoint)
        notice(f"wrote standard output: {wrote}")
        return
    model = "" if output == "charlstm.npz" else f" -m {shlex.quote(output)}"
    notice(f"wrote {output}: {wrote}; try: charlstm sample{model}")
