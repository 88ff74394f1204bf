"""charlstm sample: text from a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.options import (
    Rule,
    Utf8,
    check_options,
    config_options,
    debug_option,
    given,
    model_option,
    settings,
    unescape,
)
from charlstm.cli.streams import check_one_user, notice, to_json, without_surrogates, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.ending import Seed
    from charlstm.generation.sampler import Completion, Sampler
    from charlstm.nn.arrays import Array
    from charlstm.text.corpus import Line

LEAVE_OUT = "; leave out {others}"
RULES = (
    Rule("--seed", ["--seed-file"], "--seed and --seed-file are two seeds; give one"),
    Rule(
        "--interactive",
        [
            *("--each", "--beam", "--best-of", "--unique", "--novel", "--match"),
            *("--json", "--no-echo", "--separator"),
        ],
        f"--interactive shows what to choose from{LEAVE_OUT}",
    ),
    Rule(
        "--each",
        ["--seed", "--seed-file", "--count", "--unique", "--novel"],
        f"--each continues each line of standard input once{LEAVE_OUT}",
    ),
    Rule(
        "--beam",
        [
            *("--best-of", "--count", "--unique", "--novel", "--rng-seed"),
            *("--temperature", "--top-k", "--top-p"),
        ],
        f"--beam finds one text and draws nothing{LEAVE_OUT}",
    ),
    Rule("--match", ["--stop"], f"--match ends with its match{LEAVE_OUT}"),
)
"""Options that do without others."""

SETTINGS = ("length", "temperature", "top_k", "top_p", "count")
"""Options that are keys of the configuration's section `sample`."""


@click.command()
@model_option
@click.option(
    "--seed",
    "--prime",
    "--prompt",
    type=Utf8(),
    metavar="TEXT",
    help=r"Text to continue; \n, \t, \0 and \\ are understood.",
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
    help=r"End before this text; repeatable; \n, \t, \0 and \\ are understood.",
)
@click.option(
    "--count",
    metavar="K",
    help="K samples, computed together (default 1; with --interactive 3).",
)
@click.option(
    "--separator",
    type=Utf8(),
    default=r"\n",
    metavar="TEXT",
    show_default=True,
    help="What stands between samples.",
)
@click.option(
    "--interactive",
    is_flag=True,
    help="Type beginnings, see continuations, and go on from one by its number; :h helps.",
)
@click.option(
    "--each",
    is_flag=True,
    help="Continue every line of standard input, a line for each, each by itself.",
)
@click.option(
    "--best-of",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Of every N samples only the one with the fewest bits per character.",
)
@click.option("--unique", is_flag=True, help="No sample twice.")
@click.option("--novel", metavar="FILE", help="No sample that is a line of this text.")
@click.option(
    "--beam",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="The most probable continuation, by a beam search over N texts; draws nothing.",
)
@click.option(
    "--match",
    type=Utf8(),
    metavar="REGEX",
    help="The text that is generated matches this expression as a whole.",
)
@click.option(
    "--no-echo",
    "--prefix-only",
    is_flag=True,
    default=None,
    help="Print the continuation without the seed.",
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
def sample(**params: Any) -> int:
    """Generate text, or continue a seed. Characters, bytes or words, as the model reads them,
    appear as they are made; the text ends with a line break.

    With --each every line of standard input is a seed of its own, and one line comes out for each,
    in order. With --best-of, --unique, --novel, --beam and --json a sample appears when it has
    ended; the exit code is 1 if fewer were found than asked for.

    With --interactive what is typed is continued, --count times, until Ctrl-D or :q; what is piped
    in, too, and without prompts.
    """
    asked = SimpleNamespace(**params)
    check_options(RULES)
    _check_streams(asked)
    language = _load(asked)
    if asked.each:
        _continue_lines(language, asked)
        return 0
    text = _seed(language, asked)
    if asked.interactive:
        _converse(language, asked, text)
        return 0
    text = _known(language, text, asked.unknown == "skip", "the seed")
    if asked.beam is not None:
        _most_probable(language, asked, text)
        return 0
    if asked.as_json or asked.best_of > 1 or asked.unique or asked.novel is not None:
        return _choose(language, asked, text)
    _stream(language, asked, text)
    return 0


def _check_streams(asked: SimpleNamespace) -> None:
    """Refuse two uses of standard input."""
    if asked.interactive and asked.seed_file == "-":
        raise click.UsageError("--interactive reads standard input itself; name a file")
    if asked.novel == "-" and (asked.each or asked.seed_file == "-"):
        raise click.UsageError("standard input cannot be the seed and --novel; name a file")
    if asked.model == "-":
        readers = {"--seed-file": asked.seed_file == "-", "--novel": asked.novel == "-"}
        readers |= {"--each": asked.each, "--interactive": asked.interactive}
        check_one_user("input", ["-m", *(name for name, reads in readers.items() if reads)])


def _load(asked: SimpleNamespace) -> LanguageModel:
    """The model, with the settings of the command line."""
    from charlstm.api import load
    from charlstm.config.schema import check

    options: dict[str, tuple[str, Any]] = {
        f"--{name.replace('_', '-')}": (f"sample.{name}", getattr(asked, name)) for name in SETTINGS
    }
    options["--stop"] = ("sample.stop", [unescape(text) for text in asked.stop] or None)
    options["--no-echo"] = ("sample.echo", False if asked.no_echo else None)
    gathered = settings(asked.configs, asked.sets, options)
    check(gathered)  # a wrong option is an error before a missing model
    language = load(asked.model)
    language.configure(gathered)
    if asked.each or asked.novel is not None:  # samples are lines
        stop = [*language.config.sample.stop, *language.vocabulary.line_break]
        _set(language, "stop", stop, "--stop")
    if asked.interactive and not any(s.key == "sample.count" for s in gathered):
        from charlstm.cli.dialogue import CONTINUATIONS

        if language.config.sample.count == 1:
            _set(language, "count", CONTINUATIONS, "--interactive")
    return language


def _set(language: LanguageModel, name: str, value: Any, where: str) -> None:
    from charlstm.config.schema import Setting

    language.config = language.config.updated([Setting(f"sample.{name}", value, where)])


def _seed(language: LanguageModel, asked: SimpleNamespace) -> str:
    """The text to continue."""
    if asked.seed_file is not None:
        return language.read(asked.seed_file, notice)
    if asked.seed is None:
        return language.config.sample.seed
    if re.fullmatch(r"\d+", asked.seed):
        hint = f"for a random seed, use --rng-seed {asked.seed}"
        notice(f"continuing the text {asked.seed!r}; {hint}")
    return unescape(asked.seed)


def _known(language: LanguageModel, text: str, skip: bool, what: str) -> str:
    """A seed, normalised, and without what is not in the vocabulary where that is to be skipped."""
    vocabulary = language.vocabulary
    text = vocabulary.normalised(text)
    if skip:
        text, skipped = vocabulary.without_unknown(text)
        if skipped:
            units = f"{skipped} {vocabulary.name}{'s' * (skipped > 1)}"
            notice(f"skipped {units} of {what}: not in the vocabulary")
    return text


def _sampler(
    language: LanguageModel, asked: SimpleNamespace, prefix: Array | None = None
) -> Sampler:
    return language.sampler(
        rng_seed=asked.rng_seed,
        nats=asked.as_json or asked.best_of > 1,
        errors=_errors(asked),
        prefix=prefix,
        match=asked.match,
    )


def _errors(asked: SimpleNamespace) -> str:
    """What becomes of bytes that are not UTF-8: JSON cannot hold them."""
    return "replace" if asked.as_json else "surrogateescape"


# --- a function for each mode ------------------------------------------------------------------


def _stream(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Write samples as they grow, one after the other."""
    seed, separator = language.seed(text), unescape(asked.separator)
    shown = text if language.config.sample.echo else ""
    last = seed._replace(ids=seed.ids[-1:])
    sampler = _sampler(language, asked, prefix=seed.ids[:-1])
    started = -1
    for sample, more, _ in sampler.pieces([last] * language.config.sample.count):
        if sample != started:
            more = (separator if sample else "") + shown + more
            started = sample
        write(more.encode("utf-8", "surrogateescape"))
    _end(separator)


def _end(separator: str) -> None:
    """End the samples with a line break, or, where a NUL stands between them, as for `xargs -0`,
    with that."""
    write(separator if separator == "\0" else "\n")


def _write(asked: SimpleNamespace, seed: str, completion: Completion, before: str) -> None:
    """Write a sample that has ended: as JSON, or as text with what stands before it. Lone
    surrogates in it are bytes."""
    if not asked.as_json:
        write((before + completion.text).encode("utf-8", "surrogateescape"))
        return
    values = {"text": completion.text, "nats": completion.nats, "stop": completion.stop}
    write(to_json({"seed": without_surrogates(seed), **values}))


def _most_probable(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Write what a beam search finds."""
    if language.config.sample.count != 1:
        raise click.UsageError("--beam finds one text; leave out sample.count")
    found = language.beam(text, asked.beam, errors=_errors(asked), match=asked.match)
    _write(asked, text, found, text if language.config.sample.echo else "")
    if not asked.as_json:
        _end(unescape(asked.separator))


def _choose(language: LanguageModel, asked: SimpleNamespace, text: str) -> int:
    """Write the samples that are accepted; return the exit code."""
    from charlstm.generation.sampler import TRIES, accepted

    count, seed, separator = (
        language.config.sample.count,
        language.seed(text),
        unescape(asked.separator),
    )
    last = seed._replace(ids=seed.ids[-1:])
    accept = _Acceptance(language, asked, text)
    sampler = _sampler(language, asked, prefix=seed.ids[:-1])
    shown, found = text if language.config.sample.echo else "", 0
    for completion in accepted(sampler, last, count, asked.best_of, accept):
        _write(asked, text, completion, (separator if found else "") + shown)
        found += 1
    if found and not asked.as_json:
        _end(separator)
    if found == count:
        return 0
    cuts = f"; {accept.cut:,} were cut by --length, raise it" if accept.cut else ""
    notice(f"found {found} of {count} samples: {TRIES} in a row were not new{cuts}")
    return 1


class _Acceptance:
    """Accepts samples that are new: with --unique no text twice, with --novel no line of a text."""

    def __init__(self, language: LanguageModel, asked: SimpleNamespace, seed: str) -> None:
        self.vocabulary, self.seed = language.vocabulary, seed
        self.unique, self.novel = asked.unique, asked.novel is not None
        self.known: set[str] = set()
        self.cut = 0
        """Samples that were no whole line."""
        if self.novel:
            lines = language.read(asked.novel, notice).split("\n")
            self.known = {"", *map(self._compared, lines)}

    def __call__(self, completion: Completion) -> bool:
        if self.novel and completion.stop == "length":
            self.cut += 1
            return False
        text = completion.text
        text = self._compared((self.seed + text).rpartition("\n")[2] if self.novel else text)
        new = text not in self.known
        if self.unique:
            self.known.add(text)
        return new

    def _compared(self, line: str) -> str:
        """What of a line counts: not the blanks at its end, nor the CR of a CRLF."""
        if self.vocabulary.unit == "word":
            return " ".join(line.split())
        return self.vocabulary.normalised(line).rstrip()


def _converse(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Continue what is typed."""
    from charlstm.cli.dialogue import Dialogue

    def prepare(typed: str) -> str:
        return _known(language, typed, asked.unknown == "skip", "the text")

    begun = text or given().intersection(["--seed", "--seed-file"])
    Dialogue(language, prepare, asked.rng_seed).run(text if begun else None)


# --- each line of standard input -----------------------------------------------------------------


def _continue_lines(language: LanguageModel, asked: SimpleNamespace) -> None:
    """Continue the lines of standard input, those of a pipe as soon as they are there. A line
    that cannot be continued, since the model does not know its units or nothing that can follow
    matches, comes out as it is, and is an error at the end."""
    if language.config.sample.count != 1:
        raise click.UsageError("--each continues each line once; leave out sample.count")
    complete, number, failures = _completing(language, asked), 0, list[UsageError]()
    for lines in language.read_lines("-", notice):
        seeds: list[Seed | None] = []
        for n, line in enumerate(lines, number + 1):
            try:
                seeds.append(_seed_of(language, asked, line, f"line {n} of standard input"))
            except UsageError as e:
                seeds.append(None)
                failures.append(e)
        for line, seed, completion in zip(lines, seeds, complete(seeds, number), strict=True):
            if seed is None or completion is None:
                _pass(language, asked, line)
                continue
            _write(asked, seed.text, completion, seed.text if language.config.sample.echo else "")
            if not asked.as_json:
                write("\n")
        number += len(lines)
    if failures:
        count = len(failures)
        lines_were = "1 line was" if count == 1 else f"{count:,} lines were"
        raise UsageError(f"{lines_were} not continued: {failures[0]}")


def _seed_of(language: LanguageModel, asked: SimpleNamespace, line: str, name: str) -> Seed:
    """A line as a seed. Raises `UsageError` where it cannot be continued."""
    seed = language.seed(_known(language, line, asked.unknown == "skip", name), name)
    if asked.match is not None:
        language.check_match(asked.match, seed.text)
    return seed


Completing = Callable[[list["Seed | None"], int], Iterator["Completion | None"]]


def _completing(language: LanguageModel, asked: SimpleNamespace) -> Completing:
    """What completes the seeds that there are, from a number on: the random numbers of a seed are
    those of its place, whatever stands before it."""
    from charlstm.generation.sampler import best_of

    sampler, N = _sampler(language, asked) if asked.beam is None else None, asked.best_of

    def complete(seeds: list[Seed | None], number: int) -> Iterator[Completion | None]:
        for there, group in groupby(enumerate(seeds, number), lambda pair: pair[1] is not None):
            pairs = list(group)
            present = [seed for _, seed in pairs if seed is not None]
            if not there:
                yield from [None] * len(pairs)
            elif sampler is None:
                for seed in present:
                    options = {"errors": _errors(asked), "match": asked.match}
                    yield language.beam(seed.text, asked.beam, **options)
            else:
                repeated = [seed for seed in present for _ in range(N)]
                yield from best_of(sampler(repeated, pairs[0][0] * N), N)

    return complete


def _pass(language: LanguageModel, asked: SimpleNamespace, line: Line) -> None:
    """Write a line that cannot be continued."""
    if asked.as_json:
        values = {"text": "", "nats": None, "stop": "unknown"}
        write(to_json({"seed": without_surrogates(line), **values}))
    else:
        write(line.raw if language.config.sample.echo else b"\n")
