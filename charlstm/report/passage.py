"""The text that a report looks at: which part of which text, and how its units are shown."""

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np

from charlstm.api import LanguageModel
from charlstm.errors import CorpusError, UsageError
from charlstm.nn.arrays import Array
from charlstm.text.corpus import Corpus
from charlstm.text.visible import escaped, harmless
from charlstm.text.vocabulary import Vocabulary

EXCERPT = 2_000
"""Units of a text that are shown."""

WINDOW = 50_000
"""Units around them, at most, over which units of the network are measured."""

CONTEXT = 500
"""Units before the excerpt that a model reads first, where the text has them."""

GENERATED = 10_000
"""Units that a model generates where no text is given."""

HELD_OUT, GIVEN, OWN = "held_out", "given", "own"
"""Where a text comes from: the part of the corpus that was held out, another text, the model."""


@dataclass(frozen=True)
class Passage:
    """A text, the window of it that is read, and the excerpt of that which is shown."""

    text: str  # normalised
    window: slice  # units of the text
    excerpt: slice  # units of the window
    source: str

    @classmethod
    def of(
        cls, language: LanguageModel, text: str, start: int | None = None, length: int = EXCERPT
    ) -> Self:
        """The passage of a text whose excerpt begins `start` units into it; by default where the
        held-out part begins, if the text is the model's corpus, else at the beginning. Raises
        `CorpusError` for a text of fewer than two units, `UsageError` where nothing is left."""
        v, source = language.vocabulary, GIVEN
        if start is None:
            text, start = held_out(language, text)
            source = HELD_OUT if start else GIVEN
        text = v.normalised(text)
        N = len(v.ids(text))
        if N < 2:
            raise CorpusError(f"the text has fewer than two {v.name}s; nothing can be predicted")
        if start > N - 2:
            raise UsageError(f"the text has {N:,} {v.name}s; begin before the last two (--from)")
        first = max(0, start - CONTEXT)
        last = min(N, max(first + WINDOW, start + length))
        first = max(0, min(first, last - WINDOW))
        excerpt = slice(start - first, min(start + length, N) - first)
        return cls(text, slice(first, last), excerpt, source)

    @classmethod
    def generated(cls, language: LanguageModel, length: int = EXCERPT) -> Self:
        """A text that the model writes itself; the same each time."""
        size = max(GENERATED, length)
        sampler = language.sampler(rng_seed=0, errors="surrogateescape", length=size, stop=())
        pieces = sampler.pieces([language.seed(language.config.sample.seed)])
        passage = cls.of(language, "".join(piece.text for piece in pieces), 0, length)
        return dataclasses.replace(passage, source=OWN)

    def narrowed(self, most: int) -> Self:
        """The passage with a window of at most so many units, in which the excerpt begins."""
        size, start = self.window.stop - self.window.start, self.excerpt.start
        first = max(0, min(start - CONTEXT, size - most)) if size > most else 0
        window = slice(self.window.start + first, self.window.start + min(size, first + most))
        excerpt = slice(start - first, min(self.excerpt.stop, first + most) - first)
        return dataclasses.replace(self, window=window, excerpt=excerpt)

    def ids(self, vocabulary: Vocabulary) -> Array:
        """The ids of the window."""
        return vocabulary.ids(self.text)[self.window]

    def units(self, vocabulary: Vocabulary) -> list[str]:
        """What each unit of the window adds to the text that a reader sees; of bytes, nothing
        until a character is complete."""
        read = vocabulary.reader()
        return [read(unit) for unit in vocabulary.split(self.text)[self.window]]

    def shown(self, vocabulary: Vocabulary) -> list[str]:
        """The units of the excerpt, harmless."""
        return [harmless(unit) for unit in self.units(vocabulary)[self.excerpt]]


def held_out(language: LanguageModel, text: str) -> tuple[str, int]:
    """Where the model's corpus is this text, the text with what was held out at its end, and the
    units before that; else the text and 0."""
    checkpoint = language.checkpoint
    text_keys = dataclasses.asdict(checkpoint.config.text)
    try:
        rng_seed = checkpoint.config.train.rng_seed
        corpus = Corpus.from_text(text, rng_seed=rng_seed, **text_keys)
    except CorpusError:
        return text, 0
    if corpus.sha256 != checkpoint.progress.corpus.sha256 or not len(corpus.valid):
        return text, 0
    if corpus.split_at is None:  # lines drawn at random
        ids = np.concatenate([corpus.train, corpus.valid]).tolist()
        return corpus.vocabulary.decode(ids), len(corpus.train)
    return text, corpus.split_at


def name_of(vocabulary: Vocabulary, i: int) -> str:
    """A unit by its id, as it is called where it stands alone."""
    unit = vocabulary.units[i]
    if vocabulary.unit == "byte" and 0x20 <= i < 0x7F:
        unit = chr(i)
    return {" ": "␣", "\n": "↵", "<eos>": "↵"}.get(unit) or escaped(unit)
