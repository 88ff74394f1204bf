"""charlstm evaluate: how well a model predicts a text, its lines or its characters."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from charlstm.cli.options import Number, config_options, debug_option, settings
from charlstm.cli.streams import check_one_user, notice, printable, to_json, write
from charlstm.text.visible import escaped, harmless, joins

if TYPE_CHECKING:
    from charlstm.api import LanguageModel, Scored
    from charlstm.scoring.evaluation import Evaluation
    from charlstm.text.reading import Line
    from charlstm.text.vocabulary import Vocabulary

ROWS = 1024
"""Rows of a table that are written at a time."""

COLOURS = {1.0: "", 2.0: "0;32", 4.0: "0;33", 7.0: "0;31"}
"""Terminal colours (SGR, from 0, the reset) of units of fewer bits than the key: none, green,
yellow, red; and beyond them `SURPRISING`."""

SURPRISING = "0;1;37;41"
"""White on red."""


@click.command()
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "-m",
    "--model",
    "models",
    metavar="FILE",
    multiple=True,
    help="The checkpoint (environment: CHARLSTM_MODEL; else charlstm.npz); several are compared "
    "line by line.",
)
@click.option(
    "--lines",
    is_flag=True,
    default=None,
    help="Score every line by itself: bits per character, characters, line.",
)
@click.option(
    "--above", type=Number(), metavar="BITS", help="Pass only lines of more bits per character."
)
@click.option(
    "--below", type=Number(), metavar="BITS", help="Pass only lines of fewer bits per character."
)
@click.option(
    "--quantile",
    type=Number(0.0, 1.0),
    metavar="Q",
    help="Pass only lines of more bits per character than a share Q of those of --reference.",
)
@click.option("--reference", metavar="FILE", help="Lines for --quantile to compare with.")
@click.option(
    "--chars", is_flag=True, help="Show every character, its bits and the bits so far, as a table."
)
@click.option("--color", is_flag=True, help="With --chars: the text itself, coloured by surprise.")
@click.option("--json", "as_json", is_flag=True, default=None, help="Print JSON.")
@config_options
@debug_option
def evaluate(
    texts: tuple[str, ...],
    models: tuple[str, ...],
    lines: bool | None,
    above: float | None,
    below: float | None,
    quantile: float | None,
    reference: str | None,
    chars: bool,
    color: bool,
    as_json: bool | None,
    configs: tuple[str, ...],
    sets: tuple[str, ...],
) -> int:
    """Score text files, or standard input (-), as one stream, or line by line.

    The state is carried through from the first unit (character, byte or word), which is given
    and not scored. A character outside the vocabulary costs 13.92 nats (20.08 bits): as much as
    if it were drawn from all Unicode characters alike. A word outside is scored as <unk>.

    With --lines every line is scored by itself, and with it its end, as if it stood between two
    line ends in a text of its own. The filters pass lines as they are, and the exit code is 1 if
    none passed.
    """
    from charlstm.api import load
    from charlstm.cli.train import sources_or_stdin
    from charlstm.config.schema import check

    filters = [("--above", above), ("--below", below), ("--quantile", quantile)]
    asked = [name for name, value in filters if value is not None]
    _check(asked, above, below, reference, chars, color, as_json, models)
    sources = sources_or_stdin(texts, "TEXT")
    if reference == "-" and "-" in sources:
        raise click.UsageError("standard input cannot be TEXT and --reference; name a file")
    options = {
        "--json": ("evaluate.json", as_json),
        "--lines": ("evaluate.lines", True if asked else lines),
    }
    gathered = settings(configs, sets, options)
    check(gathered)
    paths = models or (os.environ.get("CHARLSTM_MODEL") or "charlstm.npz",)
    if "-" in paths:
        readers = {"TEXT": "-" in sources, "--reference": reference == "-"}
        check_one_user("input", ["-m", *(name for name, reads in readers.items() if reads)])
    languages = {path: load(path) for path in paths}
    for language in languages.values():
        language.configure(gathered)
    language = languages[paths[0]]
    wanted = language.config.evaluate
    if len(languages) > 1:
        _compare(languages, sources, wanted.lines)
    elif chars:
        units = _of_lines(language, sources) if wanted.lines else _of_text(language, sources)
        if color:
            _coloured(language.vocabulary, units)
        else:
            _table(units, wanted.json)
    elif asked:
        if quantile is not None and reference is not None:
            above = _threshold(language, reference, quantile)
        return _filter(language, sources, above, below, wanted.json)
    elif wanted.lines:
        _each(language, sources, wanted.json)
    else:
        _whole(language, sources)
    return 0


def _check(
    asked: Sequence[str],
    above: float | None,
    below: float | None,
    reference: str | None,
    chars: bool,
    color: bool,
    as_json: bool | None,
    models: Sequence[str],
) -> None:
    """Refuse options that do not go together."""
    if "--above" in asked and "--quantile" in asked:
        raise click.UsageError("--above and --quantile are two thresholds; give one")
    if ("--quantile" in asked) != (reference is not None):
        raise click.UsageError("--quantile is of the lines of a text; give it with --reference")
    if above is not None and below is not None and above >= below:
        raise click.UsageError(f"nothing is above {above:g} and below {below:g}")
    if chars and asked:
        raise click.UsageError(f"{asked[0]} passes lines, --chars shows characters; give one")
    if color and not chars:
        raise click.UsageError("--color goes with --chars")
    if color and as_json:
        raise click.UsageError("--color is for reading, --json for programs; give one")
    if len(set(models)) < len(models):
        raise click.UsageError("the same model is given twice; name different ones")
    if len(models) > 1 and (asked or chars):
        option = asked[0] if asked else "--chars"
        raise click.UsageError(f"{option} takes one model; several are compared line by line")


def _whole(language: LanguageModel, sources: Sequence[str]) -> None:
    """The score of the texts as one stream."""
    from charlstm.errors import CorpusError

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


def _blocks(language: LanguageModel, sources: Sequence[str]) -> Iterator[str]:
    """The texts, joined as they are, in blocks."""
    for source in sources:
        yield from language.read_blocks(source, notice)


# --- lines -------------------------------------------------------------------------------------


def _batches(language: LanguageModel, sources: Sequence[str]) -> Iterator[list[Line]]:
    """The lines of the texts, those that come through a pipe as soon as they are there."""
    for source in sources:
        yield from language.read_lines(source, notice)


def _scored(
    language: LanguageModel, sources: Sequence[str]
) -> Iterator[list[tuple[Line, Evaluation]]]:
    for lines in _batches(language, sources):
        yield list(zip(lines, language.evaluate_lines(lines), strict=True))


def _shown(text: str) -> str:
    """A text for JSON: lone surrogates, which are bytes, are replaced where they are not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # some encodings have lone surrogates of their own
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _object(line: Line, score: Evaluation) -> bytes:
    document = {**score.to_dict(), "line": _shown(line)}
    return to_json(document).encode()


def _row(line: Line, score: Evaluation) -> bytes:
    return f"{score.bits_per_unit:.4f}\t{score.units}\t".encode() + line.column


def _each(language: LanguageModel, sources: Sequence[str], as_json: bool) -> None:
    show: Callable[[Line, Evaluation], bytes] = _object if as_json else _row
    for batch in _scored(language, sources):
        write(b"".join(show(line, score) for line, score in batch))


def _filter(
    language: LanguageModel,
    sources: Sequence[str],
    above: float | None,
    below: float | None,
    as_json: bool,
) -> int:
    """Pass lines between two thresholds; return grep's exit code."""
    passed = False
    for batch in _scored(language, sources):
        passing = [
            _object(line, score) if as_json else line.raw
            for line, score in batch
            if (above is None or score.bits_per_unit > above)
            and (below is None or score.bits_per_unit < below)
        ]
        if passing:
            passed = True
            write(b"".join(passing))
    return 0 if passed else 1


def _threshold(language: LanguageModel, reference: str, quantile: float) -> float:
    """The bits per unit that a share `quantile` of a text's lines do not exceed."""
    import numpy as np

    from charlstm.errors import CorpusError

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


def _compare(languages: dict[str, LanguageModel], sources: Sequence[str], lines: bool) -> None:
    """For each line the model that gives it the fewest bits, and how many fewer than the next."""
    from charlstm.errors import UsageError

    if not lines:
        raise UsageError("several models are compared line by line; add --lines, or give one -m")
    (first, one), *others = languages.items()
    for path, language in others:
        if not one.vocabulary.prices_as(language.vocabulary):
            raise UsageError(
                f"{first} and {path} cannot be compared: models of words agree on what a line "
                "costs only where their vocabularies are equal"
            )
    encodings = {language.config.text.encoding for language in languages.values()}
    if len(encodings) > 1 and any(source != "-" for source in sources):
        notice(f"reading in the encoding of {first}")
    names = list(languages)
    for batch in _batches(one, sources):
        scores = [
            [s.bits for s in language.evaluate_lines(batch)] for language in languages.values()
        ]
        rows = []
        for line, bits in zip(batch, zip(*scores, strict=True), strict=True):
            least, second = sorted(bits)[:2]
            name, margin = names[bits.index(least)], second - least
            if one.config.evaluate.json:
                document = {
                    "model": printable(name),
                    "margin": margin,
                    "bits": dict(zip(map(printable, names), bits, strict=True)),
                    "line": _shown(line),
                }
                rows.append(to_json(document).encode())
            else:
                rows.append(os.fsencode(name) + f"\t{margin:.4f}\t".encode() + line.column)
        write(b"".join(rows))


# --- characters --------------------------------------------------------------------------------

Units = Iterator[Iterator["Scored"]]
"""Of a text, or of line after line, its units and the nats of each, some at a time; nan for one
that is given."""


def _of_text(language: LanguageModel, sources: Sequence[str]) -> Units:
    yield language.units(_blocks(language, sources))


def _of_lines(language: LanguageModel, sources: Sequence[str]) -> Units:
    for batch in _batches(language, sources):
        yield from language.units_of_lines(batch)


def _each_unit(scored: Iterator[Scored]) -> Iterator[tuple[str, float]]:
    for texts, nats in scored:
        yield from zip(texts, nats, strict=True)


def _bits(nats: float) -> float:
    from math import log

    return nats / log(2)


def _table(units: Units, as_json: bool) -> None:
    """A row for each unit that is scored, with the bits of the text or line so far."""
    for scored in units:
        rows, total = [], 0.0
        for text, of_unit in _each_unit(scored):
            if of_unit != of_unit:
                continue
            total += of_unit
            bits, so_far = _bits(of_unit), _bits(total)
            if as_json:
                document = {"text": _shown(text), "bits": bits, "total": so_far}
                rows.append(to_json(document))
            else:
                rows.append(f"{escaped(text)}\t{bits:.4f}\t{so_far:.4f}\n")
            if len(rows) == ROWS:
                write("".join(rows))
                rows.clear()
        write("".join(rows))


def _coloured(vocabulary: Vocabulary, units: Units) -> None:
    """The text with each unit in the colour of its bits; what makes one shape with the unit before
    it is in the colour of that."""
    limits, colours = list(COLOURS), [*COLOURS.values(), SURPRISING]
    for scored in units:
        parts: list[str] = []
        current, before, readable = "", "", vocabulary.reader()
        for unit, of_unit in _each_unit(scored):
            text = readable(unit)
            if not text:
                continue
            # a limit itself is of the colour above it; a unit that is given has none
            bits = _bits(of_unit)
            place = 0 if bits != bits else bisect_left(limits, bits)
            colour = "" if text.isspace() and place == 0 else colours[place]
            if joins(before, text):
                colour = current
            elif len(parts) > ROWS:
                write("".join([*parts, "\x1b[m" if current else ""]))
                parts, current = [], ""
            before = text
            if colour != current:
                parts.append(f"\x1b[{colour}m")
                current = colour
            parts.append(harmless(text))
            if "\n" in text:
                parts.append("\x1b[m" if current else "")
                write("".join(parts))
                parts, current = [], ""
        write("".join([*parts, "\x1b[m" if current else "", "\n" if parts else ""]))
