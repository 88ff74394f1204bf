"""charlstm sample: text from a model."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from charlstm.cli.options import Utf8, config_options, debug_option, model_option, settings
from charlstm.cli.streams import notice, write


@click.command()
@model_option
@click.option(
    "--seed",
    "--prime",
    "--prompt",
    type=Utf8(),
    metavar="TEXT",
    help=r"Text to continue; \n, \t and \\ are understood.",
)
@click.option("--seed-file", metavar="FILE|-", help="Continue the text in a file, as it is.")
@click.option(
    "-n",
    "--length",
    metavar="N",
    help="Characters, bytes or words to generate, the seed not counted (default 200).",
)
@click.option(
    "-t",
    "--temperature",
    metavar="F",
    help="Below 1 safer, above 1 wilder; 0 takes the likeliest (default 0.8).",
)
@click.option("--top-k", metavar="N", help="Draw from the N likeliest only (0: all).")
@click.option(
    "--top-p", metavar="F", help="Draw from the likeliest whose probabilities reach F (1: all)."
)
@click.option(
    "--stop",
    type=Utf8(),
    multiple=True,
    metavar="TEXT",
    help=r"End before this text; repeatable; \n, \t and \\ are understood.",
)
@click.option("--count", metavar="K", help="K samples, computed together (default 1).")
@click.option(
    "--separator",
    type=Utf8(),
    default=r"\n",
    metavar="TEXT",
    show_default=True,
    help="What stands between samples.",
)
@click.option(
    "--no-echo", is_flag=True, default=None, help="Print the continuation without the seed."
)
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with characters or words of the seed that the model does not know.",
)
@click.option(
    "--rng-seed", type=click.IntRange(0), metavar="N", help="The same number gives the same text."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a sample: seed, text, nats, stop reason.",
)
@config_options
@debug_option
def sample(
    model: str,
    seed: str | None,
    seed_file: str | None,
    stop: tuple[str, ...],
    separator: str,
    no_echo: bool | None,
    unknown: str,
    rng_seed: int | None,
    as_json: bool,
    configs: tuple[str, ...],
    sets: tuple[str, ...],
    **values: str | None,
) -> None:
    """Generate text, or continue a seed. Characters, bytes or words, as the model reads them,
    appear as they are made; the text ends with a line break."""
    if seed is not None and seed_file is not None:
        raise click.UsageError("--seed and --seed-file are two seeds; give one")
    from charlstm.api import load
    from charlstm.config import Config
    from charlstm.sampling import unescape

    options: dict[str, tuple[str, Any]] = {
        f"--{name.replace('_', '-')}": (f"sample.{name}", value) for name, value in values.items()
    }
    options["--stop"] = ("sample.stop", [unescape(text) for text in stop] or None)
    options["--no-echo"] = ("sample.echo", False if no_echo else None)
    gathered = settings(configs, sets, options)
    Config().updated(gathered)  # a wrong option is told before a missing model
    language = load(model)
    language.config = language.config.updated(gathered)
    if seed_file is not None:
        text = language.read(seed_file, notice)
    else:
        text = unescape(seed or "")
        if seed and re.fullmatch(r"\d+", seed):
            notice(f"continuing the text {seed!r}; for a random seed, use --rng-seed {seed}")
    vocabulary = language.vocabulary
    text = vocabulary.normalised(text)
    if unknown == "skip":
        text, skipped = vocabulary.without_unknown(text)
        if skipped:
            units = f"{skipped} {vocabulary.name}{'s' * (skipped > 1)}"
            notice(f"skipped {units} of the seed: not in the vocabulary")
    # sample after sample
    errors = "replace" if as_json else "surrogateescape"
    pieces = language.pieces(text, rng_seed=rng_seed, nats=as_json, errors=errors)
    seed_shown = text if language.config.sample.echo else ""
    printer = _Json(text) if as_json else _Plain(seed_shown, unescape(separator))
    for piece in pieces:
        printer.piece(piece)
    printer.end()


class _Plain:
    """Samples as text, with something between them. Lone surrogates in it are bytes."""

    def __init__(self, seed: str, separator: str) -> None:
        self.seed, self.separator = seed, separator
        self.started = -1

    def piece(self, piece: Any) -> None:
        before = ""
        if piece.sample != self.started:
            before = (self.separator if piece.sample else "") + self.seed
            self.started = piece.sample
        write((before + piece.text).encode("utf-8", "surrogateescape"))

    def end(self) -> None:
        write("\n")


class _Json:
    """Samples as JSON, one object a line."""

    def __init__(self, seed: str) -> None:
        self.seed = seed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.texts: dict[int, str] = {}

    def piece(self, piece: Any) -> None:
        text = self.texts.pop(piece.sample, "") + piece.text
        if piece.stop is None:
            self.texts[piece.sample] = text
            return
        document = {"seed": self.seed, "text": text, "nats": piece.nats, "stop": piece.stop}
        write(json.dumps(document, ensure_ascii=False) + "\n")

    def end(self) -> None:
        pass
