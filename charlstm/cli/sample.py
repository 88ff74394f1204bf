"""charlstm sample: text from a model."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.dialogue import CONTINUATIONS, Dialogue
from charlstm.cli.models import as_one, load_models, mix_option, model_files
from charlstm.cli.options import Rule, Utf8, check_options, configurable, given, option, settings
from charlstm.cli.seeds import Request, continue_lines, unescape
from charlstm.cli.streams import check_one_user, notice, write

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.sampler import Completion

RULES = (
    Rule("--seed", ["--seed-file"], "--seed and --seed-file are two seeds; give one"),
    Rule(
        "--interactive",
        [
            *("--each", "--beam", "--best-of", "--unique", "--novel", "--match"),
            *("--json", "--no-echo", "--separator"),
        ],
        "--interactive shows what to choose from; leave out {others}",
    ),
    Rule(
        "--each",
        ["--seed", "--seed-file", "--count", "--unique", "--novel"],
        "--each continues each line of standard input once; leave out {others}",
    ),
    Rule(
        "--beam",
        [
            *("--best-of", "--count", "--unique", "--novel", "--rng-seed"),
            *("--temperature", "--top-k", "--top-p"),
        ],
        "--beam finds one text and draws nothing; leave out {others}",
    ),
    Rule("--match", ["--stop"], "--match ends with its match; leave out {others}"),
)

SETTINGS = ("length", "temperature", "top_k", "top_p", "count", "stop", "echo")
"""Options that are keys of the configuration's section `sample`."""


@click.command()
@option(
    "-m --model FILE",
    "The checkpoint (environment: CHARLSTM_MODEL; else charlstm.npz); -: from standard input; "
    "several with --mix.",
    multiple=True,
)
@mix_option
@option(
    "--seed --prime --prompt TEXT",
    r"Text to continue; \n, \t, \0 and \\ are understood.",
    type=Utf8(),
)
@option("--seed-file FILE|-", "Continue the text in a file, as it is.")
@option(
    "-n --length N", "Characters, bytes or words to generate, the seed not counted (default 200)."
)
@option("-t --temperature F", "Below 1 safer, above 1 wilder; 0 takes the likeliest (default 0.8).")
@option("--top-k N", "Draw from the N likeliest only (0: all).")
@option("--top-p F", "Draw from the likeliest whose probabilities reach F (1: all).")
@option(
    "--stop TEXT",
    r"End before this text; repeatable; \n, \t, \0 and \\ are understood.",
    type=Utf8(),
    multiple=True,
)
@option("--count K", "K samples, computed together (default 1; with --interactive 3).")
@option(
    "--separator TEXT",
    "What stands between samples.",
    type=Utf8(),
    default=r"\n",
    show_default=True,
)
@option(
    "--interactive",
    "Type beginnings, see continuations, and continue one by its number; :h helps.",
)
@option("--each", "Continue every line of standard input, a line for each, each by itself.")
@option(
    "--best-of N",
    "Of every N samples only the one with the fewest bits per character.",
    type=click.IntRange(1),
    default=1,
)
@option("--unique", "No sample twice.")
@option("--novel FILE", "No sample that is a line of this text.")
@option(
    "--beam N",
    "The most probable continuation, by a beam search over N texts; draws nothing.",
    type=click.IntRange(1, 4096),
)
@option(
    "--match REGEX", "The text that is generated matches this expression as a whole.", type=Utf8()
)
@option("--no-echo --prefix-only", "Print the continuation without the seed.")
@option(
    "--unknown [error|skip]",
    "What to do with characters or words of the seed that the model does not know.",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
)
@option("--rng-seed N", "The same number gives the same text.", type=click.IntRange(0))
@option("--json", "One JSON object a sample: seed, text, nats, stop reason.")
@configurable
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
    asked.model = model_files(asked.model, asked.mix)
    if len(asked.model) > 1 and not asked.mix:
        raise click.UsageError("sample takes one model, or several as one; add --mix")
    _check_streams(asked)
    language = _load(asked)
    request = Request(asked, language)
    if asked.each:
        continue_lines(request)
        return 0
    text = _seed(language, asked)
    if asked.interactive:
        begun = text or given().intersection(["--seed", "--seed-file"])
        Dialogue(request).run(text if begun else None)
        return 0
    text = request.known(text, "the seed")
    if asked.beam is not None:
        if language.config.sample.count != 1:
            raise click.UsageError("--beam finds one text; leave out sample.count")
        request.write(text, request.beam(text))
        request.write_end()
        return 0
    if asked.json or asked.best_of > 1 or asked.unique or asked.novel is not None:
        return _choose(request, text)
    _stream(request, text)
    return 0


def _check_streams(asked: SimpleNamespace) -> None:
    if asked.interactive and asked.seed_file == "-":
        raise click.UsageError("--interactive reads standard input itself; name a file")
    if asked.novel == "-" and (asked.each or asked.seed_file == "-"):
        raise click.UsageError("standard input cannot be the seed and --novel; name a file")
    if "-" in asked.model:
        readers = [("--seed-file", asked.seed_file), ("--novel", asked.novel)]
        readers += [(mode, "-") for mode in given().intersection(["--each", "--interactive"])]
        check_one_user("input", [("-m", "-"), *readers])


def _load(asked: SimpleNamespace) -> LanguageModel:
    from charlstm.config.schema import Setting

    asked.stop = [unescape(text) for text in asked.stop] or None
    asked.echo = False if asked.no_echo else None
    gathered = settings(asked, "sample", SETTINGS)
    languages = load_models(asked.model, gathered)
    language = as_one(languages, [asked.seed_file, asked.novel])
    config = language.config
    if asked.each or asked.novel is not None:  # samples are lines
        stop = [*config.sample.stop, *language.vocabulary.line_break]
        language.config = config.updated([Setting("sample.stop", stop, "--stop")])
    counted = config.sample.count != 1 or any(s.key == "sample.count" for s in gathered)
    if asked.interactive and not counted:
        count = Setting("sample.count", CONTINUATIONS, "--interactive")
        language.config = config.updated([count])
    return language


def _seed(language: LanguageModel, asked: SimpleNamespace) -> str:
    if asked.seed_file is not None:
        return language.read(asked.seed_file, notice)
    if asked.seed is None:
        return language.config.sample.seed
    if re.fullmatch(r"\d+", asked.seed):
        hint = f"for a random seed, use --rng-seed {asked.seed}"
        notice(f"continuing the text {asked.seed!r}; {hint}")
    return unescape(asked.seed)


def _stream(request: Request, text: str) -> None:
    seed = request.language.seed(text)
    last = seed._replace(ids=seed.ids[-1:])
    started = -1
    count = request.language.config.sample.count
    for sample, more, _ in request.sampler(seed.ids[:-1]).pieces([last] * count):
        if sample != started:
            more = (request.separator if sample else "") + (text if request.echo else "") + more
            started = sample
        write(more.encode("utf-8", "surrogateescape"))
    request.write_end()


def _choose(request: Request, text: str) -> int:
    """Write the samples that are accepted; return the exit code."""
    from charlstm.generation.sampler import TRIES, accepted

    count, seed = request.language.config.sample.count, request.language.seed(text)
    last = seed._replace(ids=seed.ids[-1:])
    accept = _Acceptance(request, text)
    samples = accepted(request.sampler(seed.ids[:-1]), last, count, request.asked.best_of, accept)
    found = 0
    for found, completion in enumerate(samples, 1):
        request.write(text, completion, request.separator if found > 1 else "")
    if found:
        request.write_end()
    if found == count:
        return 0
    cuts = f"; {accept.cut:,} were cut by --length, raise it" if accept.cut else ""
    notice(f"found {found} of {count} samples: {TRIES} in a row were not new{cuts}")
    return 1


class _Acceptance:
    """Accepts samples that are new: with --unique no text twice, with --novel no line of a text."""

    def __init__(self, request: Request, seed: str) -> None:
        asked, language = request.asked, request.language
        self.key_of, self.seed = language.vocabulary.line_key, seed
        self.unique, self.novel = asked.unique, asked.novel is not None
        self.known: set[str] = set()
        self.cut = 0  # samples that were no whole line
        if self.novel:
            lines = language.read(asked.novel, notice).split("\n")
            self.known = {"", *map(self.key_of, lines)}

    def __call__(self, completion: Completion) -> bool:
        if self.novel and completion.stop == "length":
            self.cut += 1
            return False
        text = completion.text
        key = self.key_of((self.seed + text).rpartition("\n")[2] if self.novel else text)
        new = key not in self.known
        if self.unique:
            self.known.add(key)
        return new
