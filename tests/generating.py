"""Samplers and beams with their options as keywords, for tests and benchmarks of generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import charlstm.generation.beam
from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.sampler import Completion, Sampler
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor
from charlstm.text.vocabulary import Vocabulary


def sampler(
    model: Predictor,
    v: Vocabulary,
    key: int,
    *,
    nats: bool = False,
    prefix: Array | None = None,
    **options: Any,
) -> Sampler:
    return Sampler(model, v, key, Sampling(**options), nats=nats, prefix=prefix)


class Scored(NamedTuple):
    """A sample that has ended, as a piece that has its nats."""

    sample: int
    text: str
    stop: str
    nats: float


def generate(
    model: Predictor,
    v: Vocabulary,
    seed: Array,
    key: int,
    *,
    count: int = 1,
    before: str | None = None,
    nats: bool = False,
    **options: Any,
) -> Iterator[Any]:
    """Pieces of samples that continue one seed; with `nats` one for each."""
    seeds = [Seed(seed, v.decode(seed) if before is None else before)] * count
    one = sampler(model, v, key, nats=nats, **options)
    if not nats:
        return one.pieces(seeds)
    return (Scored(k, c.text, c.stop, c.nats) for k, c in enumerate(one(seeds)))


def beam(model: Predictor, v: Vocabulary, seed: Seed, N: int, **options: Any) -> Completion:
    return charlstm.generation.beam.beam(model, v, seed, N, Sampling(**options))
