"""charlstm evaluate: how well a model predicts a text, its lines or its characters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from charlstm.cli.characters import write_coloured, write_table
from charlstm.cli.options import (
    Number,
    Rule,
    check_options,
    config_options,
    debug_option,
    given,
    settings,
    sources_or_stdin,
)
from charlstm.cli.streams import check_one_user, notice, printable, to_json, valid_utf8, write
from charlstm.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel, Scored
    from charlstm.config.schema import Setting
    from charlstm.scoring.evaluation import Evaluation
    from charlstm.text.reading import Line

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
)


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
    check_options(RULES)
    if above is not None and below is not None and above >= below:
        raise click.UsageError(f"nothing is above {above:g} and below {below:g}")
    paths = models or (os.environ.get("CHARLSTM_MODEL") or "charlstm.npz",)
    _check_models(paths)
    sources = sources_or_stdin(texts, "TEXT")
    if reference == "-" and "-" in sources:
        raise click.UsageError("standard input cannot be TEXT and --reference; name a file")
    if "-" in paths:
        readers = [*(("TEXT", source) for source in sources), ("--reference", reference)]
        check_one_user("input", ["-m", *(name for name, file in readers if file == "-")])
    passes = bool(given().intersection(FILTERS))
    options = {
        "--json": ("evaluate.json", as_json),
        "--lines": ("evaluate.lines", passes or lines),
    }
    languages = _load(paths, settings(configs, sets, options))
    language = languages[paths[0]]
    if len(languages) > 1:
        _compare(languages, sources)
    elif chars:
        _show_characters(language, sources, color)
    elif passes:
        if quantile is not None and reference is not None:
            above = _threshold(language, reference, quantile)
        return _filter(language, sources, above, below)
    elif language.config.evaluate.lines:
        _score_lines(language, sources)
    else:
        _score_text(language, sources)
    return 0


def _check_models(paths: Sequence[str]) -> None:
    """Refuse a model twice, and several for what only one can do."""
    if len(set(paths)) < len(paths):
        raise click.UsageError("the same model is given twice; name different ones")
    alone = sorted(given().intersection(["--chars", *FILTERS]))
    if len(paths) > 1 and alone:
        raise click.UsageError(f"{alone[0]} takes one model; several are compared line by line")


def _load(paths: Sequence[str], gathered: list[Setting]) -> dict[str, LanguageModel]:
    """The models by their paths, with the settings of the command line."""
    from charlstm.api import load
    from charlstm.config.schema import check

    check(gathered)  # a wrong option is an error before a missing model
    languages = {path: load(path) for path in paths}
    for language in languages.values():
        language.configure(gathered)
    return languages


def _score_text(language: LanguageModel, sources: Sequence[str]) -> None:
    """Score the texts as one stream."""
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

    def texts() -> Iterator[Iterator[Scored]]:
        if language.config.evaluate.lines:
            for batch in _batches(language, sources):
                yield from language.units_of_lines(batch)
        else:
            yield language.units(_blocks(language, sources))

    if color:
        write_coloured(texts(), language.vocabulary)
    else:
        write_table(texts(), language.config.evaluate.json)


def _blocks(language: LanguageModel, sources: Sequence[str]) -> Iterator[str]:
    """The texts, joined as they are, in blocks."""
    for source in sources:
        yield from language.read_blocks(source, notice)


# --- lines -------------------------------------------------------------------------------------


def _score_lines(language: LanguageModel, sources: Sequence[str]) -> None:
    """Show the score of every line."""
    as_json = language.config.evaluate.json
    for batch in _scored(language, sources):
        write(b"".join((_object if as_json else _row)(line, score) for line, score in batch))


def _filter(
    language: LanguageModel, sources: Sequence[str], above: float | None, below: float | None
) -> int:
    """Pass lines between two thresholds; return grep's exit code."""
    passed = False
    for batch in _scored(language, sources):
        passing = [
            _object(line, score) if language.config.evaluate.json else line.raw
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
        raise UsageError("several models are compared line by line; add --lines, or give one -m")
    for path in others:
        _check_comparable(first, path, languages)
    encodings = {language.config.text.encoding for language in languages.values()}
    if len(encodings) > 1 and any(source != "-" for source in sources):
        notice(f"reading in the encoding of {first}")
    for batch in _batches(leading, sources):
        scores = [
            [s.bits for s in language.evaluate_lines(batch)] for language in languages.values()
        ]
        rows = [
            _compared(line, dict(zip(languages, bits, strict=True)), leading.config.evaluate.json)
            for line, bits in zip(batch, zip(*scores, strict=True), strict=True)
        ]
        write(b"".join(rows))


def _check_comparable(first: str, path: str, languages: dict[str, LanguageModel]) -> None:
    """Refuse two models of words whose bits are of different lines."""
    if not languages[first].vocabulary.prices_as(languages[path].vocabulary):
        raise UsageError(
            f"{first} and {path} cannot be compared: models of words agree on what a line "
            "costs only where their vocabularies are equal"
        )


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
    for source in sources:
        yield from language.read_lines(source, notice)


def _scored(
    language: LanguageModel, sources: Sequence[str]
) -> Iterator[list[tuple[Line, Evaluation]]]:
    for lines in _batches(language, sources):
        yield list(zip(lines, language.evaluate_lines(lines), strict=True))


def _object(line: Line, score: Evaluation) -> bytes:
    return to_json({**score.to_dict(), "line": valid_utf8(line)}).encode()


def _row(line: Line, score: Evaluation) -> bytes:
    return f"{score.bits_per_unit:.4f}\t{score.units}\t".encode() + line.column
