"""`sample --each`: every line of standard input is continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click

from charlstm.cli.seeds import errors_of, known, sampler_of, write_sample
from charlstm.cli.streams import notice, to_json, valid_utf8, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.ending import Seed
    from charlstm.generation.sampler import Completion
    from charlstm.text.reading import Line


def continue_lines(language: LanguageModel, asked: SimpleNamespace) -> None:
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
            write_sample(language, asked, seed.text, completion)
            if not asked.as_json:
                write("\n")
        number += len(lines)
    if failures:
        count = len(failures)
        lines_were = "1 line was" if count == 1 else f"{count:,} lines were"
        raise UsageError(f"{lines_were} not continued: {failures[0]}")


def _seed_of(language: LanguageModel, asked: SimpleNamespace, line: str, name: str) -> Seed:
    """A line as a seed. Raises `UsageError` where it cannot be continued."""
    seed = language.seed(known(language, line, asked.unknown == "skip", name), name)
    if asked.match is not None:
        language.check_match(asked.match, seed.text)
    return seed


Completing = Callable[[list["Seed | None"], int], Iterator["Completion | None"]]


def _completing(language: LanguageModel, asked: SimpleNamespace) -> Completing:
    """What completes the seeds that there are, from a number on: the random numbers of a seed are
    those of its place, whatever stands before it."""
    from charlstm.generation.sampler import best_of

    sampler, N = sampler_of(language, asked) if asked.beam is None else None, asked.best_of

    def complete(seeds: list[Seed | None], number: int) -> Iterator[Completion | None]:
        for there, group in groupby(enumerate(seeds, number), lambda pair: pair[1] is not None):
            pairs = list(group)
            present = [seed for _, seed in pairs if seed is not None]
            if not there:
                yield from [None] * len(pairs)
            elif sampler is None:
                for seed in present:
                    options = {"errors": errors_of(asked), "match": asked.match}
                    yield language.beam(seed.text, asked.beam, **options)
            else:
                repeated = [seed for seed in present for _ in range(N)]
                yield from best_of(sampler(repeated, pairs[0][0] * N), N)

    return complete


def _pass(language: LanguageModel, asked: SimpleNamespace, line: Line) -> None:
    """Write a line that cannot be continued."""
    if asked.as_json:
        values = {"text": "", "nats": None, "stop": "unknown"}
        write(to_json({"seed": valid_utf8(line), **values}))
    else:
        write(line.raw if language.config.sample.echo else b"\n")
