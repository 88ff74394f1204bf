"""What the ways to `sample` share: seeds, samplers, and how a sample is written."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

from charlstm.cli.streams import notice, to_json, valid_utf8, write

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
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
