"""What the ways to `sample` share: seeds, samplers, and how a sample is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from charlstm.cli.streams import notice, to_json, valid_utf8, write

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.generation.sampler import Completion, Sampler
    from charlstm.nn.arrays import Array


def known(language: LanguageModel, text: str, skip: bool, what: str) -> str:
    """A seed, normalised, and without what is not in the vocabulary where that is to be skipped."""
    vocabulary = language.vocabulary
    text = vocabulary.normalised(text)
    if skip:
        text, skipped = vocabulary.without_unknown(text)
        if skipped:
            units = f"{skipped} {vocabulary.name}{'s' * (skipped > 1)}"
            notice(f"skipped {units} of {what}: not in the vocabulary")
    return text


def sampler_of(
    language: LanguageModel, asked: SimpleNamespace, prefix: Array | None = None
) -> Sampler:
    return language.sampler(
        rng_seed=asked.rng_seed,
        nats=asked.as_json or asked.best_of > 1,
        errors=errors_of(asked),
        prefix=prefix,
        match=asked.match,
    )


def errors_of(asked: SimpleNamespace) -> str:
    """What becomes of bytes that are not UTF-8: JSON cannot hold them."""
    return "replace" if asked.as_json else "surrogateescape"


def write_end(separator: str) -> None:
    """End the samples with a line break, or, where a NUL stands between them, as for `xargs -0`,
    with that."""
    write(separator if separator == "\0" else "\n")


def write_sample(
    language: LanguageModel,
    asked: SimpleNamespace,
    seed: str,
    completion: Completion,
    separator: str = "",
) -> None:
    """Write a sample that has ended: as JSON, or as text after a separator. Lone surrogates in it
    are bytes."""
    if asked.as_json:
        values = {"text": completion.text, "nats": completion.nats, "stop": completion.stop}
        write(to_json({"seed": valid_utf8(seed), **values}))
        return
    shown = seed if language.config.sample.echo else ""
    write((separator + shown + completion.text).encode("utf-8", "surrogateescape"))
