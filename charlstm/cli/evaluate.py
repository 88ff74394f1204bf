"""charlstm evaluate: how well a model predicts a text, its lines or its characters."""

from __future__ import annotations

import contextlib
import math
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.models import as_one, load_models, mix_option, model_files, tell_encoding
from charlstm.cli.options import (
    Number,
    Rule,
    check_options,
    configurable,
    given,
    offer,
    option,
    or_stdin,
    settings,
)
from charlstm.cli.streams import check_one_user, notice, printable, to_json, valid_utf8, write
from charlstm.errors import CorpusError, UsageError
from charlstm.text.visible import escaped, harmless, joins

if TYPE_CHECKING:
    from charlstm.api import LanguageModel, Scored
    from charlstm.scoring.evaluation import Evaluation
    from charlstm.text.reading import Line
    from charlstm.text.vocabulary import Vocabulary

FILTERS = ("--above", "--below", "--quantile")
"""Options with which lines pass as they are, or do not."""

OF_A_TEXT = "--quantile is of the lines of a text; give it with --reference"
RULES = (
    Rule("--above", ["--quantile"], "--above and --quantile are two thresholds; give one"),
    Rule("--quantile", ["--reference"], OF_A_TEXT, needs=True),
    Rule("--reference", ["--quantile"], OF_A_TEXT, needs=True),
    Rule("--chars", FILTERS, "{first} passes lines, --chars shows characters; give one"),
    Rule("--color", ["--chars"], "--color goes with --chars", needs=True),
    Rule("--color", ["--json"], "--color is for reading, --json for programs; give one"),
    Rule("--mix", ["--save"], "--save writes one model, --mix makes none; give one"),
    Rule("--force", ["--save"], "--force replaces the file of --save; name one", needs=True),
)


@click.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1, shell_complete=offer("files"))
@option(
    "-m --model FILE",
    "The checkpoint (environment: CHARLSTM_MODEL; else charlstm.npz); several are compared "
    "line by line.",
    multiple=True,
)
@mix_option
@option(
    "--lines", "Score every line by itself: bits per character, characters, line.", default=None
)
@option("--above BITS", "Pass only lines of more bits per character.", type=Number())
@option("--below BITS", "Pass only lines of fewer bits per character.", type=Number())
@option(
    "--quantile Q",
    "Pass only lines of more bits per character than a share Q of those of --reference.",
    type=Number(0.0, 1.0),
)
@option("--reference FILE", "Lines for --quantile to compare with.")
@option("--chars", "Show every character, its bits and the bits so far, as a table.")
@option("--color", "With --chars: the text itself, coloured by surprise.")
@option("--json", "Print JSON.", default=None)
@option("--adapt", "Learn from the text on the way, from each part after its score.", default=None)
@option("--save FILE", "With --adapt: write the adapted model at the end.")
@option("--force", "Replace the file of --save where it exists.")
@configurable
def evaluate(**params: Any) -> int:
    """Score text files, or standard input (-), as one stream, or line by line.

    The state is carried through from the first unit (character, byte or word), which is given
    and not scored. A character outside the vocabulary costs 13.92 nats (20.08 bits): as much as
    if it were drawn from all Unicode characters alike. A word outside is scored as <unk>.

    With --lines every line is scored by itself, and with it its end, as if it stood between two
    line ends in a text of its own. The filters pass lines as they are, and the exit code is 1 if
    none passed.

    With --adapt the weights take a small step after each part of a text, or each line, that is
    scored. Nothing is learnt from before it is scored.
    """
    asked = SimpleNamespace(**params)
    check_options(RULES)
    above, below = asked.above, asked.below
    if above is not None and below is not None and above >= below:
        raise click.UsageError(f"nothing is above {above:g} and below {below:g}")
    paths = model_files(asked.model, asked.mix)
    alone = sorted(given().intersection(["--chars", "--save", *FILTERS]))
    if len(paths) > 1 and alone and not asked.mix:
        raise click.UsageError(
            f"{alone[0]} takes one model; several are compared line by line, or are one with --mix"
        )
    sources = or_stdin(asked.texts, "TEXT")
    _check_output(asked, paths, sources)
    if asked.reference == "-" and "-" in sources:
        raise click.UsageError("standard input cannot be TEXT and --reference; name a file")
    if "-" in paths:
        readers = [*(("TEXT", source) for source in sources), ("--reference", asked.reference)]
        check_one_user("input", [("-m", "-"), *readers])
    asked.lines = bool(given().intersection(FILTERS)) or asked.lines
    languages = load_models(paths, settings(asked, "evaluate", ["json", "lines", "adapt"]))
    languages = {
        path: language.adapting() if language.config.evaluate.adapt else language
        for path, language in languages.items()
    }
    with _saving(languages[paths[0]], asked):
        return _evaluate(languages, sources, asked)


def _evaluate(
    languages: dict[str, LanguageModel], sources: Sequence[str], asked: SimpleNamespace
) -> int:
    """Write what is asked for; return the exit code."""
    if len(languages) > 1 and not asked.mix:
        _compare(languages, sources)
        return 0
    language = as_one(languages, [*sources, asked.reference])
    if asked.chars:
        _show_characters(language, sources, asked.color)
    elif language.config.evaluate.lines:
        return _write_lines(language, sources, asked)
    else:
        _score_text(language, sources)
    return 0


def _check_output(asked: SimpleNamespace, paths: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse to write the adapted model to what is read."""
    if asked.save is None:
        return
    from charlstm.config.bundle import bundled
    from charlstm.storage.files import check_apart

    if asked.save == "-":
        raise click.UsageError("--save writes a file; standard output has the scores")
    known = bundled()
    read = [
        *(("the model", path) for path in paths),
        *(("the text", source) for source in sources),
        *([] if asked.reference is None else [("the reference", asked.reference)]),
        *(("a configuration", known.get(name, name)) for name in asked.config),
    ]
    check_apart("the adapted model", asked.save, read)


@contextlib.contextmanager
def _saving(language: LanguageModel, asked: SimpleNamespace) -> Iterator[None]:
    """Write the adapted model, where that is asked for, when the block has ended well."""
    from charlstm.api import AdaptingModel

    if asked.save is None:
        yield
    elif isinstance(language, AdaptingModel):
        with language.saving(asked.save, force=asked.force):
            yield
    else:
        raise UsageError("--save writes what a model has become by --adapt; add that")


def _score_text(language: LanguageModel, sources: Sequence[str]) -> None:
    result = language.score(_blocks(language, sources))
    name = language.vocabulary.name
    if result.units < 1:
        raise CorpusError(
            f"the text has fewer than two {name}s; at least two are needed, the first is given"
        )
    if language.config.evaluate.json:
        write(to_json(result.to_dict()))
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


def _show_characters(language: LanguageModel, sources: Sequence[str], color: bool) -> None:
    """Show the units of the texts as one stream, or with `evaluate.lines` of line after line."""
    texts: Iterable[Iterator[Scored]] = [language.units(_blocks(language, sources))]
    if language.config.evaluate.lines:
        texts = chain.from_iterable(map(language.units_of_lines, _batches(language, sources)))
    if color:
        write_coloured(texts, language.vocabulary)
    else:
        write_table(texts, language.config.evaluate.json)


def _blocks(language: LanguageModel, sources: Sequence[str]) -> Iterator[str]:
    return chain.from_iterable(language.read_blocks(source, notice) for source in sources)


def _write_lines(language: LanguageModel, sources: Sequence[str], asked: SimpleNamespace) -> int:
    """Write the lines with their scores, or pass those between two thresholds; return the exit
    code, with thresholds that of grep."""
    above, below = asked.above, asked.below
    if asked.quantile is not None:
        above = _threshold(language, asked.reference, asked.quantile)
    passes, passed = above is not None or below is not None, False
    row = _object if language.config.evaluate.json else _raw if passes else _row
    for batch in _scored(language, sources):
        rows = [
            row(line, score)
            for line, score in batch
            if (above is None or score.bits_per_unit > above)
            and (below is None or score.bits_per_unit < below)
        ]
        if rows:
            passed = True
            write(b"".join(rows))
    return 0 if passed or not passes else 1


def _threshold(language: LanguageModel, reference: str, quantile: float) -> float:
    """The bits per unit that a share `quantile` of a text's lines do not exceed."""
    import numpy as np

    bits = [s.bits_per_unit for batch in _scored(language, [reference]) for _, s in batch]
    if not bits:
        raise CorpusError(f"{reference}: has no lines to compare with")
    threshold = float(np.quantile(bits, quantile, method="inverted_cdf"))
    within = sum(of_line <= threshold for of_line in bits)
    notice(
        f"{within:,} of {len(bits):,} lines of {reference} have at most {threshold:.4f} bits "
        f"per {language.vocabulary.name}: passing lines of more"
    )
    return threshold


def _compare(languages: dict[str, LanguageModel], sources: Sequence[str]) -> None:
    """Show for each line the model that gives it the fewest bits, and how many fewer than the
    next. Settings are those of the first model."""
    first, *others = languages
    leading = languages[first]
    if not leading.config.evaluate.lines:
        raise UsageError(
            "several models are compared line by line; add --lines or --mix, or give one -m"
        )
    for path in others:
        if not leading.vocabulary.prices_as(languages[path].vocabulary):
            raise UsageError(
                f"{first} and {path} cannot be compared: models of words agree on what a line "
                "costs only where their vocabularies are equal"
            )
    tell_encoding(languages, sources)
    for batch in _batches(leading, sources):
        scores = [language.evaluate_lines(batch) for language in languages.values()]
        rows = []
        for line, *of_line in zip(batch, *scores, strict=True):
            bits = {path: score.bits for path, score in zip(languages, of_line, strict=True)}
            rows.append(_compared(line, bits, leading.config.evaluate.json))
        write(b"".join(rows))


def _compared(line: Line, bits: dict[str, float], as_json: bool) -> bytes:
    """A row of a comparison, from the bits that each model gives the line."""
    name = min(bits, key=bits.__getitem__)
    least, second = sorted(bits.values())[:2]
    if not as_json:
        return os.fsencode(name) + f"\t{second - least:.4f}\t".encode() + line.column
    document = {
        "model": printable(name),
        "margin": second - least,
        "bits": {printable(path): of_model for path, of_model in bits.items()},
        "line": valid_utf8(line),
    }
    return to_json(document).encode()


def _batches(language: LanguageModel, sources: Sequence[str]) -> Iterator[list[Line]]:
    """The lines of the texts, those that come through a pipe as soon as they are there."""
    return chain.from_iterable(language.read_lines(source, notice) for source in sources)


def _scored(
    language: LanguageModel, sources: Sequence[str]
) -> Iterator[list[tuple[Line, Evaluation]]]:
    for lines in _batches(language, sources):
        yield list(zip(lines, language.evaluate_lines(lines), strict=True))


def _raw(line: Line, score: Evaluation) -> bytes:
    return line.raw


def _object(line: Line, score: Evaluation) -> bytes:
    return to_json({**score.to_dict(), "line": valid_utf8(line)}).encode()


def _row(line: Line, score: Evaluation) -> bytes:
    return f"{score.bits_per_unit:.4f}\t{score.units}\t".encode() + line.column


# --- characters --------------------------------------------------------------------------------

ROWS = 1024
"""Rows of a table that are written at a time."""

LIMITS = (1.0, 2.0, 4.0, 7.0)
"""Bits of a unit up to which it has the colour of the same place in `COLOURS`."""

COLOURS = ("", "0;32", "0;33", "0;31", "0;1;37;41")
"""Terminal colours (SGR, from 0, the reset): none, green, yellow, red, and, beyond all limits,
white on red."""


def write_table(texts: Iterable[Iterator[Scored]], as_json: bool) -> None:
    """Write a row for each unit that is scored, with the bits of its text so far."""
    for scored in texts:
        rows, total = [], 0.0
        for unit, nats in _units(scored):
            if math.isnan(nats):  # given, not scored
                continue
            total += nats
            bits, so_far = nats / math.log(2), total / math.log(2)
            if as_json:
                rows.append(to_json({"text": valid_utf8(unit), "bits": bits, "total": so_far}))
            else:
                rows.append(f"{escaped(unit)}\t{bits:.4f}\t{so_far:.4f}\n")
            if len(rows) == ROWS:
                write("".join(rows))
                rows.clear()
        write("".join(rows))


def write_coloured(texts: Iterable[Iterator[Scored]], vocabulary: Vocabulary) -> None:
    """Write the texts with each unit in the colour of its bits; a unit that makes one shape with
    the unit before it has the colour of that."""
    for scored in texts:
        parts: list[str] = []
        current, before, readable = "", "", vocabulary.reader()
        for unit, nats in _units(scored):
            text = readable(unit)
            if not text:
                continue
            if joins(before, text):
                colour = current
            else:
                colour = _colour(text, nats)
                if len(parts) > ROWS:
                    _write_parts(parts, current)
                    current = ""
            before = text
            if colour != current:
                parts.append(f"\x1b[{colour}m")
                current = colour
            parts.append(harmless(text))
            if "\n" in text:
                _write_parts(parts, current)
                current = ""
        write("".join([*parts, "\x1b[m" if current else "", "\n" if parts else ""]))


def _write_parts(parts: list[str], colour: str) -> None:
    """Write parts of a text and forget them, its colour included."""
    write("".join([*parts, "\x1b[m" if colour else ""]))
    parts.clear()


def _colour(text: str, nats: float) -> str:
    """The colour of a unit; one that is given, of nan nats, has none."""
    place = 0 if math.isnan(nats) else bisect_left(LIMITS, nats / math.log(2))
    return "" if text.isspace() and place == 0 else COLOURS[place]


def _units(scored: Iterator[Scored]) -> Iterator[tuple[str, float]]:
    for texts, nats in scored:
        yield from zip(texts, nats, strict=True)
