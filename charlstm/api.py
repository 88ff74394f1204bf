"""The library's front door: load a model, sample from it, score with it, train one."""

import contextlib
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from charlstm.config.schema import Setting
from charlstm.errors import UsageError
from charlstm.generation.beam import beam
from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.matcher import Matcher
from charlstm.generation.numbers import key_of
from charlstm.generation.sampler import Completion, Sampler
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor
from charlstm.nn.model import Model
from charlstm.scoring.adaptive import AdaptiveScorer
from charlstm.scoring.evaluation import (
    LONG,
    Evaluation,
    LineScorer,
    between_line_ends,
    evaluate,
    surprisals,
)
from charlstm.scoring.flow import POSITIONS, GradientFlow
from charlstm.scoring.flow import gradient_flow as flow_of
from charlstm.scoring.mixed import static_scorer
from charlstm.scoring.scorers import Scorer
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint
from charlstm.storage.lock import Path_
from charlstm.text.reading import Line, Notice, encoding_of, read_blocks, read_lines, read_text
from charlstm.training.saving import writing

Scored = tuple[Sequence[str], Sequence[float]]
"""Units of a text and the nats of each."""


class LanguageModel:
    """A trained model with its vocabulary: what `load` gives."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.standard_input = "utf-8"  # the encoding of standard input, whatever that of files is
        self.vocabulary = checkpoint.vocabulary
        self.model: Predictor = checkpoint.model()
        self._matcher = cache(lambda expression: Matcher(expression, self.vocabulary))

    def configure(self, settings: Iterable[Setting]) -> None:
        """Put settings over the model's own. An encoding among them is that of all that is read
        from here on; without one, files are read as the corpus was, and standard input is UTF-8."""
        settings = list(settings)
        self.config = self.config.updated(settings)
        if any(setting.key == "text.encoding" for setting in settings):
            self.standard_input = self.config.text.encoding

    def _encoding(self, source: Path_) -> str | None:
        """How a source is decoded; None where units are bytes."""
        encoding = encoding_of(self.config.text)
        standard_input = encoding is not None and os.fspath(source) == "-"
        return self.standard_input if standard_input else encoding

    def read(self, source: Path_, notice: Notice = lambda message: None) -> str:
        """The text in a file, in the encoding of the corpus, or on standard input ("-"), in UTF-8;
        where the unit is the byte, with a lone surrogate for each that is not UTF-8."""
        return read_text(source, self._encoding(source), notice)

    def read_blocks(self, source: Path_, notice: Notice = lambda message: None) -> Iterator[str]:
        """What `read` gives, in blocks."""
        return read_blocks(source, self._encoding(source), notice)

    def read_lines(
        self, source: Path_, notice: Notice = lambda message: None
    ) -> Iterator[list[Line]]:
        """The lines in a file, some at a time, in the same encoding; of a pipe those that are
        there, without waiting for more. What cannot be decoded is no error: see
        `charlstm.text.reading.read_lines`."""
        return read_lines(source, self._encoding(source), notice)

    def _sampling(
        self, options: Mapping[str, Any], errors: str = "replace", match: str | None = None
    ) -> Sampling:
        """How texts are generated, with these options over the configuration's section `sample`."""
        changes = [Setting(f"sample.{name}", value, name) for name, value in options.items()]
        matcher = None if match is None else self._matcher(match)
        return Sampling.of(self.config.updated(changes).sample, self.vocabulary, matcher, errors)

    def seed(self, text: str, what: str = "the seed") -> Seed:
        """A text as `sampler` takes it. Raises `VocabularyError`, which calls the text `what`,
        where units are outside the vocabulary."""
        text = self.vocabulary.normalised(text)
        return Seed(self.vocabulary.encode_strictly(text, what), text)

    def sampler(
        self,
        *,
        rng_seed: int | None = None,
        nats: bool = False,
        errors: str = "replace",
        prefix: Array | None = None,
        match: str | None = None,
        **options: Any,
    ) -> Sampler:
        """What continues many seeds side by side. Options are as for `sample`; with `match`,
        a regular expression, each continuation matches it as a whole. `errors` is what
        `bytes.decode` does with generated bytes that are not UTF-8. Raises `UsageError` for an
        expression that is not understood, and the sampler where none of its matches can be made."""
        sampling = self._sampling(options, errors, match)
        key = key_of(rng_seed)
        return Sampler(self.model, self.vocabulary, key, sampling, nats=nats, prefix=prefix)

    def sample(
        self, seed: str | None = None, *, rng_seed: int | None = None, **options: Any
    ) -> Iterator[str]:
        """Yield characters that continue `seed`, or the configuration's, which is not repeated.

        Options are the keys of the configuration's section `sample`: `length` (units at most:
        characters, bytes or words), `temperature` (0: the likeliest each time), `top_k`, `top_p`,
        `stop` (a list of texts to end before). What is left out is as the model's configuration
        says. The same `rng_seed`, a whole number from 0 up, gives the same text. Raises
        `VocabularyError` for a seed with units the model does not know, `ConfigError` for a wrong
        option and `UsageError` for a wrong `rng_seed`.
        """
        sampler = self.sampler(rng_seed=rng_seed, **options)
        for piece in sampler.pieces([self.seed(self.config.sample.seed if seed is None else seed)]):
            yield from piece.text

    def complete(
        self, seeds: Sequence[str], *, rng_seed: int | None = None, **options: Any
    ) -> Iterator[str]:
        """Yield a continuation of each seed, in their order, each from a state of its own. They
        are made side by side. Options and errors are those of `sample`."""
        each = [self.seed(seed, f"seed {n}") for n, seed in enumerate(seeds)]
        for completion in self.sampler(rng_seed=rng_seed, **options)(each):
            yield completion.text

    def beam(
        self,
        seed: str,
        N: int,
        *,
        errors: str = "replace",
        what: str = "the seed",
        match: str | None = None,
        **options: Any,
    ) -> Completion:
        """The most probable continuation that a beam search over N texts finds, by the options
        `length` and `stop` of `sample`; with `match`, a regular expression, of those that match it
        as a whole. `what` is what errors call the seed."""
        _check_number("N", N, 1)
        sampling = self._sampling(options, errors, match)
        return beam(self.model, self.vocabulary, self.seed(seed, what), N, sampling)

    def check_match(self, expression: str, before: str) -> None:
        """Raise `UsageError` where nothing that can follow a text matches an expression as a
        whole."""
        self._matcher(expression).start(before, self.config.sample.length)

    def evaluate(self, text: str) -> Evaluation:
        """Score a text as one stream: nats and bits per character, byte or word, perplexity."""
        return self.score(text[at : at + LONG] for at in range(0, len(text), LONG))

    def score(self, texts: Iterable[str]) -> Evaluation:
        """As `evaluate`, of a text of any size that comes in blocks."""
        blocks = map(self.vocabulary.ids, self.vocabulary.blocks(texts))
        return evaluate(self.scorer, blocks, self.vocabulary)

    def units(self, texts: Iterable[str], learn: bool = True) -> Iterator[Scored]:
        """The units of a text that comes in blocks, read as one stream, some at a time, and the
        nats of each; nan for the first, which is given. `learn` is for a model that adapts."""
        v, units = self.vocabulary, deque[str]()

        def blocks() -> Iterator[Array]:
            for text in v.blocks(texts):
                units.extend(v.split(text))
                yield v.ids(text)

        given = True
        for _, nats in self.scorer.stream(blocks(), learn):
            if given:
                yield [units.popleft()], [math.nan]
                given = False
            yield [units.popleft() for _ in range(len(nats))], nats.tolist()
        if units:  # the first and only one
            yield list(units), [math.nan]

    def units_of_lines(self, lines: Sequence[str]) -> Iterator[Iterator[Scored]]:
        """The same for lines, which are without their ends, each by itself; their ends are units
        too."""
        v, line_break = self.vocabulary, self.vocabulary.line_break
        short = [line for line in lines if len(line) <= LONG]
        nats = self.line_scorer.surprisals(short)
        for line in lines:
            if len(line) <= LONG:
                yield iter([(v.split(v.normalised(line + line_break)), next(nats).tolist())])
            else:
                scored = self.units(between_line_ends(line, line_break), learn=False)
                next(scored)  # the line end before it
                yield scored

    def surprisals(self, text: str) -> Array:
        """Nats (N - 1,), float64, of each unit of a text but the first, as one stream."""
        return surprisals(self.scorer, self.vocabulary.encode(text))

    def evaluate_lines(self, lines: Sequence[str]) -> list[Evaluation]:
        """Score lines, which are without their ends, each by itself: as the text "\\nLINE\\n", or
        "\\nLINE\\r\\n" where the lines of the corpus end so."""
        return self.line_scorer(lines)

    @cached_property
    def scorer(self) -> Scorer:
        """What scores ids; it keeps its buffers."""
        return static_scorer(self.model, self.vocabulary.charged)

    def adapting(self, **options: Any) -> "AdaptingModel":
        """This model as one that learns from each text that it scores, once that is scored. The
        trained weights stay as they are. Options are the keys `adapt_rate` and `adapt_pull` of the
        configuration's section `evaluate`. Raises `ConfigError` for a wrong one."""
        return AdaptingModel(self, options)

    @property
    def line_scorer(self) -> LineScorer:
        """What scores lines."""
        return LineScorer(self.scorer, self.vocabulary)


class AdaptingModel(LanguageModel):
    """A model that learns from what it scores (`charlstm.scoring.adaptive`)."""

    def __init__(self, trained: LanguageModel, options: Mapping[str, Any]) -> None:
        super().__init__(trained.checkpoint)
        self.standard_input = trained.standard_input
        changes = [Setting(f"evaluate.{name}", value, name) for name, value in options.items()]
        self.config = trained.config.updated(changes)
        rate, pull = self.config.evaluate.adapt_rate, self.config.evaluate.adapt_pull
        charged = self.vocabulary.charged
        assert isinstance(trained.model, Model)
        self.adaptive = AdaptiveScorer(trained.model, rate, pull, charged)
        self.scorer, self.model = self.adaptive, self.adaptive.model

    def save(self, path: Path_, *, force: bool = False) -> None:
        """Write a checkpoint whose weights in use are those of now, by the rules of `saving`."""
        with self.saving(path, force=force):
            pass

    @contextlib.contextmanager
    def saving(self, path: Path_, *, force: bool = False) -> Iterator[None]:
        """Hold a file from here on, and write the model to it when the block has ended well. Raises
        `UsageError` where it exists, unless it is to be replaced (`force`)."""
        with writing(path, force=force) as output:
            yield
            weights = self.adaptive.model.weights.flat
            output.write(self.checkpoint.adapted(weights, self.adaptive.learnt), last=True)


def _check_number(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise UsageError(f"{name} is {value!r}; give a whole number from {least} up")


def load(path: Path_ = "charlstm.npz") -> LanguageModel:
    """Read a checkpoint. Raises `UsageError` where it is missing, `CheckpointError` where it is
    damaged."""
    return LanguageModel(read_checkpoint(path))


def gradient_flow(model: LanguageModel, text: str | Iterable[str], lags: int = 50) -> GradientFlow:
    """How far back the losses of a text reach: for each state of the network (layer0.h, layer0.c,
    …), the norm of d loss_t / d state_(t-k) at the lags k = 0 … `lags`, as its mean over many t.

    A gradient that falls by a factor at every step cannot teach what lies far back. What exactly
    is measured, `charlstm.scoring.flow.gradient_flow` says; of a long text, which may come in
    blocks, it is the beginning. Raises `CorpusError` for a text of fewer than `lags` + 2
    characters, and `UsageError` for `lags` below 0, and for a mixture.
    """
    _check_number("lags", lags, 0)
    if not isinstance(model.model, Model):
        raise UsageError("a mixture has no gradient flow of its own; take one of its models")
    v = model.vocabulary
    ids, enough = [np.empty(0, np.int32)], POSITIONS * (lags + 1) + 1
    for block in v.blocks([text] if isinstance(text, str) else text):
        ids.append(v.ids(block))
        if sum(map(len, ids)) >= enough:
            break
    return flow_of(model.model, np.concatenate(ids), lags, v.charged, v.name)
