"""charlstm sample: text from a model."""

from __future__ import annotations

import re
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
from charlstm.cli.seeds import errors_of, known, sampler_of, write_end, write_sample
from charlstm.cli.streams import check_one_user, notice, write

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.sampler import Completion

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
        from charlstm.cli.each import continue_lines

        continue_lines(language, asked)
        return 0
    text = _seed(language, asked)
    if asked.interactive:
        _converse(language, asked, text)
        return 0
    text = known(language, text, asked.unknown == "skip", "the seed")
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


# --- a function for each mode ------------------------------------------------------------------


def _stream(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Write samples as they grow, one after the other."""
    seed, separator = language.seed(text), unescape(asked.separator)
    shown = text if language.config.sample.echo else ""
    last = seed._replace(ids=seed.ids[-1:])
    sampler = sampler_of(language, asked, prefix=seed.ids[:-1])
    started = -1
    for sample, more, _ in sampler.pieces([last] * language.config.sample.count):
        if sample != started:
            more = (separator if sample else "") + shown + more
            started = sample
        write(more.encode("utf-8", "surrogateescape"))
    write_end(separator)


def _most_probable(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Write what a beam search finds."""
    if language.config.sample.count != 1:
        raise click.UsageError("--beam finds one text; leave out sample.count")
    found = language.beam(text, asked.beam, errors=errors_of(asked), match=asked.match)
    write_sample(language, asked, text, found)
    if not asked.as_json:
        write_end(unescape(asked.separator))


def _choose(language: LanguageModel, asked: SimpleNamespace, text: str) -> int:
    """Write the samples that are accepted; return the exit code."""
    from charlstm.generation.sampler import TRIES, accepted

    count, separator = language.config.sample.count, unescape(asked.separator)
    seed = language.seed(text)
    last = seed._replace(ids=seed.ids[-1:])
    accept = _Acceptance(language, asked, text)
    sampler = sampler_of(language, asked, prefix=seed.ids[:-1])
    found = 0
    for completion in accepted(sampler, last, count, asked.best_of, accept):
        write_sample(language, asked, text, completion, separator if found else "")
        found += 1
    if found and not asked.as_json:
        write_end(separator)
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
            self.known = {"", *map(self.vocabulary.line_key, lines)}

    def __call__(self, completion: Completion) -> bool:
        if self.novel and completion.stop == "length":
            self.cut += 1
            return False
        text = completion.text
        line = (self.seed + text).rpartition("\n")[2] if self.novel else text
        key = self.vocabulary.line_key(line)
        new = key not in self.known
        if self.unique:
            self.known.add(key)
        return new


def _converse(language: LanguageModel, asked: SimpleNamespace, text: str) -> None:
    """Continue what is typed."""
    from charlstm.cli.dialogue import Dialogue

    def prepare(typed: str) -> str:
        return known(language, typed, asked.unknown == "skip", "the text")

    begun = text or given().intersection(["--seed", "--seed-file"])
    Dialogue(language, prepare, asked.rng_seed).run(text if begun else None)
