"""The library's front door: load a model, sample from it, score with it, train one."""

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from charlstm.config.fields import seconds
from charlstm.config.schema import Config, Setting, check
from charlstm.config.sources import AUTO, bundled, read_config
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
from charlstm.storage.files import check_apart, claim
from charlstm.storage.lock import Lock, Path_
from charlstm.text.corpus import Corpus
from charlstm.text.reading import Line, Notice, encoding_of, read_blocks, read_lines, read_text
from charlstm.training.auto import TIME, Chooser
from charlstm.training.ranks import ranks
from charlstm.training.run import Training
from charlstm.training.saving import Output

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
        output = Output(path)
        try:
            if Path(path).exists() and not force:
                other = "replace it (--force) or write to another file"
                raise UsageError(f"{path} exists; {other}")
            yield
            weights = self.adaptive.model.weights.flat
            output.write(self.checkpoint.adapted(weights, self.adaptive.learnt), last=True)
        finally:
            output.lock.release()


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


def inputs(
    corpus: Sequence[Path_], valid: Path_ | None, configs: Iterable[str]
) -> list[tuple[str, Path_]]:
    """The files that training reads, each with what messages call it."""
    known = bundled()
    return [
        *(("the corpus", path) for path in corpus),
        *([] if valid is None else [("the held-out text", valid)]),
        *(("a configuration", known.get(name, name)) for name in configs if name != AUTO),
    ]


def train(
    corpus: Path_ | Sequence[Path_],
    output: Path_ | None = None,
    *,
    config: str | Iterable[str] = (),
    settings: Mapping[str, Any] | Iterable[Setting] = (),
    valid: Path_ | None = None,
    resume: bool = False,
    force: bool = False,
    accept_changes: bool = False,
    notice: Notice = lambda message: None,
) -> Training:
    """Train a model on text files; iterate over the result, a `Record` a step.

        for record in charlstm.train("corpus.txt", "model.npz", settings={"train.steps": 500}):
            print(record.step)

    `config` names bundled configurations or YAML files, later ones on top; `settings` are single
    keys over them. The checkpoint is written to `output` on the way and at the end; without
    `output`, call `Training.checkpoint()`. An output that exists is an error unless you resume it
    (`resume`) or replace it (`force`); one that is also an input always is. If another process is
    writing it, that is a `BusyError`. With `accept_changes` a run resumes with another corpus,
    other settings or another number of ranks, as far as possible; without it they are errors.
    """
    sources = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus)
    if not sources:
        raise UsageError("no corpus is given; name a text file, or - for standard input")
    names = [config] if isinstance(config, str) else list(config)
    if isinstance(settings, Mapping):
        settings = [Setting(key, value, "settings") for key, value in settings.items()]
    if output is not None:
        if os.fspath(output) == "-":
            what = "write Training.checkpoint() to it yourself"
            raise UsageError(f"the output is no stream here; {what}")
        check_apart("the output", output, inputs(sources, valid, names))
    files = [name for name in names if name != AUTO]
    changes = [setting for name in files for setting in read_config(name)] + list(settings)
    if AUTO in names and not resume:
        changes.insert(0, Setting("train.max_time", TIME, AUTO))
    check(changes)  # a wrong setting is told before anything else
    began = time.monotonic()
    with _claimed(output) as lock:
        if output is not None and Path(output).exists() and not (resume or force):
            other = "replace it (--force) or write to another file (-o FILE)"
            raise UsageError(f"{output} exists; go on with it (--resume), {other}")
        if not resume:
            wanted = Config().updated(changes)
            text = _read(sources, valid, notice, wanted)
            reasons: list[str] = []
            if AUTO in names:
                wanted, summary, reasons = Chooser(text, changes, began)()
                notice(summary)
            training = Training.start(text, wanted, output, lock)
            training.reasons = reasons
        elif output is None:
            raise UsageError("nothing to go on with: resume needs the checkpoint as output")
        else:
            before = read_checkpoint(output)
            text = _read(sources, valid, notice, before.config.updated(changes))
            training = Training.resume(
                text, before, output, lock, settings=changes, accept_changes=accept_changes
            )
        training.spent = time.monotonic() - began
        return training


@contextlib.contextmanager
def _claimed(output: Path_ | None) -> Iterator[Lock | None]:
    """The lock on the output, which rank 0 takes; let go of where the block fails."""
    together = ranks()
    lock = None if output is None or together.rank else claim(output)
    try:
        together.wait()  # for rank 0 to have the lock; what is read from here on stays as it is
        yield lock
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _read(sources: Sequence[Path_], valid: Path_ | None, notice: Notice, wanted: Config) -> Corpus:
    """The corpus of a run; a time limit counts its reading. Several ranks must read the same."""
    t = wanted.train
    limit = math.inf if t.max_time is None or ranks().size > 1 else seconds(t.max_time)
    return Corpus.from_files(
        *(sources, wanted.text, valid, notice), rng_seed=t.rng_seed, seconds=limit
    )
