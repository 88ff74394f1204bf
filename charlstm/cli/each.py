"""`sample --each`: every line of standard input is continued."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from charlstm.cli.seeds import Request
from charlstm.cli.streams import notice, to_json, valid_utf8, write
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.generation.ending import Seed
    from charlstm.generation.sampler import Completion, Sampler
    from charlstm.text.reading import Line


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
            try:
                seeds.append(_seed_of(request, line, f"line {n} of standard input"))
            except UsageError as e:
                seeds.append(None)
                failures.append(e)
        completions = _complete(request, sampler, seeds, number)
        for line, seed, completion in zip(lines, seeds, completions, strict=True):
            if seed is None or completion is None:
                _pass(request, line)
                continue
            request.write(seed.text, completion)
            if not asked.json:
                write("\n")
        number += len(lines)
    if failures:
        count = len(failures)
        lines_were = "1 line was" if count == 1 else f"{count:,} lines were"
        raise UsageError(f"{lines_were} not continued: {failures[0]}")


def _seed_of(request: Request, line: str, name: str) -> Seed:
    """A line as a seed. Raises `UsageError` where it cannot be continued."""
    seed = request.language.seed(request.known(line, name), name)
    if request.asked.match is not None:
        request.language.check_match(request.asked.match, seed.text)
    return seed


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


def _pass(request: Request, line: Line) -> None:
    """Write a line that cannot be continued."""
    if request.asked.json:
        values = {"text": "", "nats": None, "stop": "unknown"}
        write(to_json({"seed": valid_utf8(line), **values}))
    else:
        write(line.raw if request.echo else b"\n")
