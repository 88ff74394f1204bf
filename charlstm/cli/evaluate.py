"""charlstm evaluate: how well a model predicts a text."""

from __future__ import annotations

import json

import click

from charlstm.cli.options import config_options, debug_option, model_option, settings
from charlstm.cli.streams import notice, write


@click.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@model_option
@click.option("--json", "as_json", is_flag=True, default=None, help="Print one JSON object.")
@config_options
@debug_option
def evaluate(
    texts: tuple[str, ...],
    model: str,
    as_json: bool | None,
    configs: tuple[str, ...],
    sets: tuple[str, ...],
) -> None:
    """Score text files, or standard input (-), as one stream.

    The state is carried through from the first character, which is given and not scored. A
    character outside the vocabulary costs 13.92 nats (20.08 bits): as much as if it were drawn
    from all Unicode characters alike.
    """
    from charlstm.api import load
    from charlstm.cli.train import sources_or_stdin
    from charlstm.config import Config
    from charlstm.corpus import read_text
    from charlstm.errors import CorpusError

    sources = sources_or_stdin(texts, "TEXT")
    gathered = settings(configs, sets, {"--json": ("evaluate.json", as_json)})
    Config().updated(gathered)
    language = load(model)
    config = language.config.updated(gathered)
    text = "".join(read_text(source, config.text.encoding, notice) for source in sources)
    if len(text) < 2:
        raise CorpusError(
            f"the text has {len(text)} characters; at least two are needed, the first is given"
        )
    result = language.evaluate(text)
    if config.evaluate.json:
        write(json.dumps(result.to_dict()) + "\n")
        return
    write(
        f"nats per character   {result.nats_per_char:.4f}\n"
        f"bits per character   {result.bits_per_char:.4f}\n"
        f"perplexity           {result.perplexity:.4f}\n"
        f"characters scored    {result.characters}\n"
        f"outside vocabulary   {result.unknown}\n"
    )
