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

    The state is carried through from the first unit (character, byte or word), which is given
    and not scored. A character outside the vocabulary costs 13.92 nats (20.08 bits): as much as
    if it were drawn from all Unicode characters alike. A word outside is scored as <unk>.
    """
    from charlstm.api import load
    from charlstm.cli.train import sources_or_stdin
    from charlstm.config import Config
    from charlstm.errors import CorpusError

    sources = sources_or_stdin(texts, "TEXT")
    gathered = settings(configs, sets, {"--json": ("evaluate.json", as_json)})
    Config().updated(gathered)
    language = load(model)
    language.config = language.config.updated(gathered)
    result = language.evaluate("".join(language.read(source, notice) for source in sources))
    name = language.vocabulary.name
    if result.units < 1:
        raise CorpusError(
            f"the text has fewer than two {name}s; at least two are needed, the first is given"
        )
    if language.config.evaluate.json:
        write(json.dumps(result.to_dict()) + "\n")
        return
    perplexity = "perplexity" if result.unit == "char" else f"{name} perplexity"
    rows = {
        f"nats per {name}": f"{result.nats_per_unit:.4f}",
        f"bits per {name}": f"{result.bits_per_unit:.4f}",
        perplexity: f"{result.perplexity:.4f}",
        f"{name}s scored": f"{result.units}",
        "outside vocabulary": f"{result.unknown}",
    }
    write("".join(f"{what:<21}{value}\n" for what, value in rows.items()))
