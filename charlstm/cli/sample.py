"""charlstm sample: text from a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.options import Utf8, config_options, debug_option, model_option, settings
from charlstm.cli.streams import check_one_user, notice, to_json, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.sampling import Completer, Completion, Piece, Seed
    from charlstm.text.reading import Line


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
def sample(
    model: str,
    seed: str | None,
    seed_file: str | None,
    stop: tuple[str, ...],
    separator: str,
    interactive: bool,
    each: bool,
    best_of: int,
    unique: bool,
    novel: str | None,
    beam: int | None,
    match: str | None,
    no_echo: bool | None,
    unknown: str,
    rng_seed: int | None,
    as_json: bool,
    configs: tuple[str, ...],
    sets: tuple[str, ...],
    **values: str | None,
) -> int:
    """Generate text, or continue a seed. Characters, bytes or words, as the model reads them,
    appear as they are made; the text ends with a line break.

    With --each every line of standard input is a seed of its own, and one line comes out for each,
    in order. With --best-of, --unique, --novel, --beam and --match a sample appears when it has
    ended; the exit code is 1 if fewer were found than asked for.

    With --interactive what is typed is continued, --count times, until Ctrl-D or :q; what is piped
    in, too, and without prompts.
    """
    options: dict[str, tuple[str, Any]] = {
        f"--{name.replace('_', '-')}": (f"sample.{name}", value) for name, value in values.items()
    }
    given = {
        *(name for name, (_, value) in options.items() if value is not None),
        *(["--seed"] if seed is not None else []),
        *(["--seed-file"] if seed_file is not None else []),
        *(["--best-of"] if best_of > 1 else []),
        *(["--unique"] if unique else []),
        *(["--novel"] if novel is not None else []),
        *(["--match"] if match is not None else []),
        *(["--stop"] if stop else []),
        *(["--rng-seed"] if rng_seed is not None else []),
        *(["--each"] if each else []),
        *(["--beam"] if beam is not None else []),
        *(["--json"] if as_json else []),
        *(["--no-echo"] if no_echo else []),
        *(["--separator"] if separator != r"\n" else []),
    }
    if {"--seed", "--seed-file"} <= given:
        raise click.UsageError("--seed and --seed-file are two seeds; give one")
    if interactive:
        _alone("--interactive", "shows what to choose from", ALONE["--interactive"] & given)
    if interactive and seed_file == "-":
        raise click.UsageError("--interactive reads standard input itself; name a file")
    if each:
        _alone("--each", "continues each line of standard input once", ALONE["--each"] & given)
    if beam is not None:
        _alone("--beam", "finds one text and draws nothing", ALONE["--beam"] & given)
    if match is not None:
        _alone("--match", "ends with its match", {"--stop"} & given)
    if novel == "-" and (each or seed_file == "-"):
        raise click.UsageError("standard input cannot be the seed and --novel; name a file")
    if model == "-":
        readers = {"--seed-file": seed_file == "-", "--novel": novel == "-"}
        readers |= {"--each": each, "--interactive": interactive}
        check_one_user("input", ["-m", *(name for name, reads in readers.items() if reads)])
    from charlstm.api import load
    from charlstm.config.schema import Setting, check
    from charlstm.generation.sampling import unescape

    options["--stop"] = ("sample.stop", [unescape(text) for text in stop] or None)
    options["--no-echo"] = ("sample.echo", False if no_echo else None)
    gathered = settings(configs, sets, options)
    check(gathered)  # a wrong option is told before a missing model
    language = load(model)
    language.configure(gathered)
    errors = "replace" if as_json else "surrogateescape"
    how = _How(language, best_of, beam, match, rng_seed, as_json, errors)
    if each:
        _end_lines(language)
        how.each_line(unknown == "skip")
        return 0
    if seed_file is not None:
        text = language.read(seed_file, notice)
    else:
        text = language.config.sample.seed if seed is None else unescape(seed)
        if seed and re.fullmatch(r"\d+", seed):
            notice(f"continuing the text {seed!r}; for a random seed, use --rng-seed {seed}")
    if interactive:
        from charlstm.cli.dialogue import CONTINUATIONS, Dialogue

        if language.config.sample.count == 1 and all(s.key != "sample.count" for s in gathered):
            language.config = language.config.updated(
                [Setting("sample.count", CONTINUATIONS, "--interactive")]
            )
        dialogue = Dialogue(
            language, lambda typed: _known(language, typed, unknown == "skip", "the text"), rng_seed
        )
        dialogue.run(text if text or {"--seed", "--seed-file"} & given else None)
        return 0
    text = _known(language, text, unknown == "skip", "the seed")
    seed_shown = text if language.config.sample.echo else ""
    printer = _Json(text) if as_json else _Plain(seed_shown, unescape(separator))
    if beam is None and best_of == 1 and not unique and novel is None and match is None:
        # sample after sample
        for piece in language.pieces(text, rng_seed=rng_seed, nats=as_json, errors=errors):
            printer.piece(piece)
        printer.end()
        return 0
    if novel is not None:
        _end_lines(language)
    return how.chosen(text, unique, novel, printer)


ALONE = {
    "--interactive": {
        *("--each", "--beam", "--best-of", "--unique", "--novel", "--match"),
        *("--json", "--no-echo", "--separator"),
    },
    "--each": {"--seed", "--seed-file", "--count", "--unique", "--novel"},
    "--beam": {
        *("--best-of", "--count", "--unique", "--novel", "--rng-seed"),
        *("--temperature", "--top-k", "--top-p"),
    },
}
"""Options that another one does without."""


def _alone(option: str, what: str, others: set[str]) -> None:
    if others:
        raise click.UsageError(f"{option} {what}; leave out {', '.join(sorted(others))}")


def _end_lines(language: LanguageModel) -> None:
    """Let samples end with their line: where its end, which may be CRLF, begins."""
    from charlstm.config.schema import Setting

    stop = [*language.config.sample.stop, *language.vocabulary.line_break]
    language.config = language.config.updated([Setting("sample.stop", stop, "--stop")])


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


class _How:
    """Samples that appear when they have ended, and how they are come by."""

    def __init__(
        self,
        language: LanguageModel,
        best_of: int,
        beam: int | None,
        match: str | None,
        rng_seed: int | None,
        as_json: bool,
        errors: str,
    ) -> None:
        self.language, self.best_of, self.beam, self.match = language, best_of, beam, match
        self.rng_seed, self.as_json, self.errors = rng_seed, as_json, errors

    def completer(self, prefix: Any = None) -> Completer:
        nats = self.as_json or self.best_of > 1
        return self.language.completer(
            rng_seed=self.rng_seed,
            nats=nats,
            errors=self.errors,
            prefix=prefix,
            match=self.match,
        )

    def each_line(self, skip: bool) -> None:
        """Continue the lines of standard input, those of a pipe as soon as they are there. One
        that cannot be continued, since the model does not know its units or nothing that can follow
        matches, comes out as it is, and is an error at the end."""
        language, number, left = self.language, 0, 0
        first: UsageError | None = None
        if language.config.sample.count != 1:
            raise click.UsageError("--each continues each line once; leave out sample.count")
        completer = self.completer() if self.beam is None else None
        for lines in language.read_lines("-", notice):
            seeds: list[Seed | None] = []
            for n, line in enumerate(lines, number + 1):
                name = f"line {n} of standard input"
                try:
                    seed = language.seed(_known(language, line, skip, name), name)
                    if self.match is not None:
                        language.check_match(self.match, seed[1])
                    seeds.append(seed)
                except UsageError as e:
                    seeds.append(None)
                    first, left = first or e, left + 1
            completions = self._completions(completer, seeds, number)
            number += len(lines)
            for line, each, completion in zip(lines, seeds, completions, strict=True):
                if each is None or completion is None:
                    self._as_it_is(line)
                    continue
                _, text = each
                shown = text if language.config.sample.echo else ""
                printer = _Json(text) if self.as_json else _Plain(shown, "")
                printer.piece(_piece(0, completion))
                printer.end()
        if first is not None:
            lines_are = "1 line was" if left == 1 else f"{left:,} lines were"
            raise UsageError(f"{lines_are} not continued: {first}")

    def _completions(
        self, completer: Completer | None, seeds: list[Seed | None], number: int
    ) -> Iterator[Completion | None]:
        """A completion of each seed that there is. The first one is number `number` from 0: the
        random numbers of a seed are those of its place, whatever stands before it."""
        from charlstm.generation.sampling import best_of

        language, N = self.language, self.best_of
        for there, group in groupby(enumerate(seeds, number), lambda seed: seed[1] is not None):
            places, some = zip(*group, strict=True)
            if not there:
                yield from some
            elif self.beam is not None:
                for _, text in some:
                    yield language.beam(text, self.beam, errors=self.errors, match=self.match)
            elif completer is not None:
                repeated = [seed for seed in some for _ in range(N)]
                yield from best_of(completer(repeated, places[0] * N), N)

    def _as_it_is(self, line: Line) -> None:
        """Let a line go on that cannot be continued."""
        if self.as_json:
            document = {"seed": _Json(line).seed, "text": "", "nats": None, "stop": "unknown"}
            write(to_json(document))
        else:
            write(line.raw if self.language.config.sample.echo else b"\n")

    def chosen(self, text: str, unique: bool, novel: str | None, printer: _Json | _Plain) -> int:
        """Continue a seed with the samples that are wanted; return the exit code."""
        from charlstm.generation.sampling import TRIES, accepted

        language, count = self.language, self.language.config.sample.count
        if self.beam is not None:
            if count != 1:
                raise click.UsageError("--beam finds one text; leave out sample.count")
            found_one = language.beam(text, self.beam, errors=self.errors, match=self.match)
            printer.piece(_piece(0, found_one))
            printer.end()
            return 0
        line, known = language.vocabulary.line_key, set()
        if novel is not None:
            known = {"", *map(line, language.read(novel, notice).split("\n"))}
        cut = 0

        def accept(completion: Completion) -> bool:
            nonlocal cut
            if novel is not None and completion.stop == "length":  # no whole line
                cut += 1
                return False
            continuation = completion.text
            whole = line((text + continuation).rpartition("\n")[2] if novel else continuation)
            new = whole not in known
            if unique:
                known.add(whole)
            return new

        ids, before = language.seed(text)
        completions = accepted(
            self.completer(ids[:-1]), (ids[-1:], before), count, self.best_of, accept
        )
        found = 0
        for completion in completions:
            printer.piece(_piece(found, completion))
            found += 1
        if found:
            printer.end()
        if found < count:
            cuts = f"; {cut:,} were cut by --length, raise it" if cut else ""
            notice(f"found {found} of {count} samples: {TRIES} in a row were not new{cuts}")
            return 1
        return 0


def _piece(number: int, completion: Completion) -> Piece:
    from charlstm.generation.sampling import Piece

    return Piece(number, completion.text, completion.stop, completion.nats)


class _Plain:
    """Samples as text, with something between them, and a line break at the end, or, where a NUL
    stands between, as for `xargs -0`, that. Lone surrogates in it are bytes."""

    def __init__(self, seed: str, separator: str) -> None:
        self.seed, self.separator = seed, separator
        self.started = -1

    def piece(self, piece: Piece) -> None:
        before = ""
        if piece.sample != self.started:
            before = (self.separator if piece.sample else "") + self.seed
            self.started = piece.sample
        write((before + piece.text).encode("utf-8", "surrogateescape"))

    def end(self) -> None:
        write(self.separator if self.separator == "\0" else "\n")


class _Json:
    """Samples as JSON, one object a line."""

    def __init__(self, seed: str) -> None:
        self.seed = seed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.texts: dict[int, str] = {}

    def piece(self, piece: Piece) -> None:
        text = self.texts.pop(piece.sample, "") + piece.text
        if piece.stop is None:
            self.texts[piece.sample] = text
            return
        document = {"seed": self.seed, "text": text, "nats": piece.nats, "stop": piece.stop}
        write(to_json(document))

    def end(self) -> None:
        pass
