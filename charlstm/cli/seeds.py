"""What `sample` does with seeds, one of them or, with `--each`, a line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click

from charlstm.cli.streams import notice, to_json, valid_utf8, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.ending import Seed
    from charlstm.generation.sampler import Completion, Sampler
    from charlstm.nn.arrays import Array

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


def unescape(text: str) -> str:
    """Replace the escapes that are awkward to type in a shell: \\n, \\t, \\r, \\0 and \\\\."""
    return re.sub(r"\\([ntr0\\])", lambda match: _ESCAPES[match[1]], text)


class Request:
    """The options of a `sample` command, and the model that they are for."""

    def __init__(self, asked: SimpleNamespace, language: LanguageModel) -> None:
        self.asked, self.language = asked, language
        self.echo, self.separator = language.config.sample.echo, unescape(asked.separator)
        self.errors = "replace" if asked.json else "surrogateescape"
        """What becomes of bytes that are not UTF-8: JSON cannot hold them."""

    def known(self, text: str, what: str) -> str:
        """A seed, normalised, and with `--unknown skip` without what is not in the vocabulary."""
        vocabulary = self.language.vocabulary
        text = vocabulary.normalised(text)
        if self.asked.unknown == "skip":
            text, skipped = vocabulary.without_unknown(text)
            if skipped:
                units = f"{skipped} {vocabulary.name}{'s' * (skipped > 1)}"
                notice(f"skipped {units} of {what}: not in the vocabulary")
        return text

    def sampler(self, prefix: Array | None = None) -> Sampler:
        asked, nats = self.asked, self.asked.json or self.asked.best_of > 1
        options = {"errors": self.errors, "prefix": prefix, "match": asked.match}
        return self.language.sampler(rng_seed=asked.rng_seed, nats=nats, **options)

    def beam(self, text: str) -> Completion:
        """What a beam search finds."""
        asked = self.asked
        return self.language.beam(text, asked.beam, errors=self.errors, match=asked.match)

    def write(self, seed: str, completion: Completion, separator: str = "") -> None:
        """Write a sample that has ended: as JSON, or as text after a separator. Lone surrogates in
        it are bytes."""
        if self.asked.json:
            values = {"text": completion.text, "nats": completion.nats, "stop": completion.stop}
            write(to_json({"seed": valid_utf8(seed), **values}))
            return
        text = separator + (seed if self.echo else "") + completion.text
        write(text.encode("utf-8", "surrogateescape"))

    def write_end(self) -> None:
        """End the samples with a line break, or, where a NUL stands between them, as for
        `xargs -0`, with that; JSON has its own."""
        if not self.asked.json:
            write(self.separator if self.separator == "\0" else "\n")


def continue_lines(request: Request) -> None:
    """Continue the lines of standard input, those of a pipe as soon as they are there. A line
    that cannot be continued, since the model does not know its units or nothing that can follow
    matches, comes out as it is, and is an error at the end."""
    asked, language = request.asked, request.language
    if language.config.sample.count != 1:
        raise click.UsageError("--each continues each line once; leave out sample.count")
    sampler = request.sampler() if asked.beam is None else None
    number, failures = 0, list[UsageError]()
    for lines in language.read_lines("-", notice):
        seeds: list[Seed | None] = []
        for n, line in enumerate(lines, number + 1):
            name = f"line {n} of standard input"
            try:
                seed = language.seed(request.known(line, name), name)
                if asked.match is not None:
                    language.check_match(asked.match, seed.text)
                seeds.append(seed)
            except UsageError as e:
                seeds.append(None)
                failures.append(e)
        completions = _complete(request, sampler, seeds, number)
        for line, begun, completion in zip(lines, seeds, completions, strict=True):
            if begun is not None and completion is not None:
                request.write(begun.text, completion)
                write("" if asked.json else "\n")
            elif asked.json:
                values = {"text": "", "nats": None, "stop": "unknown"}
                write(to_json({"seed": valid_utf8(line), **values}))
            else:
                write(line.raw if request.echo else b"\n")
        number += len(lines)
    if failures:
        count = len(failures)
        lines_were = "1 line was" if count == 1 else f"{count:,} lines were"
        raise UsageError(f"{lines_were} not continued: {failures[0]}")


def _complete(
    request: Request, sampler: Sampler | None, seeds: list[Seed | None], number: int
) -> Iterator[Completion | None]:
    """Complete the seeds that there are, the first of which has a number: the random numbers of a
    seed are those of its place, whatever stands before it."""
    from charlstm.generation.sampler import best_of

    N = request.asked.best_of
    for there, group in groupby(enumerate(seeds, number), lambda pair: pair[1] is not None):
        pairs = list(group)
        present = [seed for _, seed in pairs if seed is not None]
        if not there:
            yield from [None] * len(pairs)
        elif sampler is None:
            yield from (request.beam(seed.text) for seed in present)
        else:
            repeated = [seed for seed in present for _ in range(N)]
            yield from best_of(sampler(repeated, pairs[0][0] * N), N)
