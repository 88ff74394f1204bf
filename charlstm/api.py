"""The library's front door: load a model, sample from it, score with it, train one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from charlstm.checkpoint import Checkpoint, claim, read_checkpoint
from charlstm.config import Config, Setting, read_config
from charlstm.corpus import Corpus, Notice
from charlstm.errors import UsageError
from charlstm.evaluation import Evaluation, evaluate
from charlstm.flow import GradientFlow
from charlstm.flow import gradient_flow as flow_of
from charlstm.lock import Lock
from charlstm.ranks import ranks
from charlstm.sampling import Piece, generate
from charlstm.training import Training, fitted

Path_ = str | os.PathLike[str]


class LanguageModel:
    """A trained model with its vocabulary: what `load` gives."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.vocabulary = checkpoint.vocabulary
        self.model = checkpoint.model()

    def pieces(
        self, seed: str = "", *, rng_seed: int | None = None, nats: bool = False, **options: Any
    ) -> Iterator[Piece]:
        """As `sample`, but for one or more samples side by side (`count`), in settled stretches of
        text with the reason for each sample's end; with `nats` also its surprisal."""
        changes = [Setting(f"sample.{name}", value, name) for name, value in options.items()]
        s = self.config.updated(changes).sample
        return generate(
            self.model,
            self.vocabulary,
            self.vocabulary.encode_strictly(seed, "the seed"),
            np.random.default_rng(rng_seed),
            count=s.count,
            length=s.length,
            temperature=s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            stop=s.stop,
            nats=nats,
        )

    def sample(
        self, seed: str = "", *, rng_seed: int | None = None, **options: Any
    ) -> Iterator[str]:
        """Yield characters that continue `seed`, which is not repeated.

        Options are the keys of the configuration's section `sample`: `length` (characters at
        most), `temperature` (0: the likeliest each time), `top_k`, `top_p`, `stop` (a list of texts
        to end before). What is left out is as the model's configuration says. The same `rng_seed`
        gives the same text. Raises `VocabularyError` for a seed with characters the model does not
        know and `ConfigError` for a wrong option.
        """
        for piece in self.pieces(seed, rng_seed=rng_seed, count=1, **options):
            yield from piece.text

    def evaluate(self, text: str) -> Evaluation:
        """Score a text as one stream: nats and bits per character, perplexity."""
        return evaluate(self.model, self.vocabulary.encode(text))


def load(path: Path_ = "charlstm.npz") -> LanguageModel:
    """Read a checkpoint. Raises `UsageError` where it is missing, `CheckpointError` where it is
    damaged."""
    return LanguageModel(read_checkpoint(path))


def gradient_flow(model: LanguageModel, text: str, lags: int = 50) -> GradientFlow:
    """How far back the losses of a text reach: for each state of the network (layer0.h, layer0.c,
    …), the norm of d loss_t / d state_(t-k) at the lags k = 0 … `lags`, as its mean over many t.

    A gradient that falls by a factor at every step cannot teach what lies far back. What exactly
    is measured, `charlstm.flow.gradient_flow` says. Raises `CorpusError` for a text of fewer than
    `lags` + 2 characters.
    """
    return flow_of(model.model, model.vocabulary.encode(text), lags)


FIXED_ON_RESUME = (
    *("text.", "model.", "train.batch", "train.length", "train.shards"),
    *("train.optimizer", "train.rms_decay", "train.beta", "train.average", "train.rng_seed"),
)
"""Beginnings of the keys that a run cannot change on the way, …"""

SHAPE = (
    *("model.cell", "model.hidden", "model.layers", "model.embedding", "model.tie"),
    *("train.optimizer", "train.batch", "train.average"),
)
"""… and of those that it cannot even if that is asked for: by them the arrays would be others."""


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
            print(record.step, record.train)

    `config` names bundled configurations or YAML files, later ones on top; `settings` are single
    keys over them. The checkpoint is written to `output` on the way and at the end; without
    `output` it is to be had from `Training.checkpoint()`. An output that exists is an error unless
    it is to be gone on with (`resume`) or replaced (`force`). Nobody else may be writing it: that
    is a `BusyError`. `accept_changes` goes on with another corpus, other settings or another number
    of ranks than before, as far as that is possible; without it they are errors.
    """
    sources = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus)
    if not sources:
        raise UsageError("no corpus is given; name a text file, or - for standard input")
    names = [config] if isinstance(config, str) else list(config)
    if isinstance(settings, Mapping):
        settings = [Setting(key, value, "settings") for key, value in settings.items()]
    changes = [setting for name in names for setting in read_config(name)] + list(settings)
    wanted = Config().updated(changes)  # a wrong setting is told before anything else
    together = ranks()
    lock = None if output is None or together.rank else claim(output)
    try:
        together.wait()  # for rank 0 to have the lock; what is read from here on stays as it is
        return _begun(
            *(sources, output, lock, wanted, changes, valid),
            *(resume, force, accept_changes, notice),
        )
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _begun(
    sources: Sequence[Path_],
    output: Path_ | None,
    lock: Lock | None,
    wanted: Config,
    changes: list[Setting],
    valid: Path_ | None,
    resume: bool,
    force: bool,
    accept_changes: bool,
    notice: Notice,
) -> Training:
    """As `train`, once the settings are known and the output is locked."""
    if output is not None and Path(output).exists() and not (resume or force):
        raise UsageError(
            f"{output} exists; go on with it (--resume), replace it (--force) "
            "or write to another file (-o FILE)"
        )
    if not resume:
        text = Corpus.from_files(sources, wanted.text.encoding, wanted.text.valid, valid, notice)
        return Training.start(text, wanted, output, lock)
    if output is None:
        raise UsageError("nothing to go on with: resume needs the checkpoint as output")
    checkpoint = read_checkpoint(output)
    before = checkpoint.config
    wanted = before.updated(changes)
    text = Corpus.from_files(sources, wanted.text.encoding, wanted.text.valid, valid, notice)
    after, _ = fitted(wanted, len(text.train) // ranks().size)
    for setting in changes:
        section, _, name = setting.key.partition(".")
        old, new = (getattr(getattr(c, section), name) for c in (before, after))
        if old == new or not setting.key.startswith(FIXED_ON_RESUME):
            continue
        if accept_changes and not setting.key.startswith(SHAPE):
            notice(f"{setting.key} was {old!r} when the checkpoint was written and is {new!r}")
            continue
        accepted = "" if setting.key.startswith(SHAPE) else ", accept it (--accept-changes)"
        raise UsageError(
            f"{setting.where}: {setting.key} is {old!r} in {output} and cannot change on "
            f"--resume; leave it out{accepted}, or start anew with -o or --force"
        )
    checkpoint.config = after
    return Training.resume(text, checkpoint, output, lock, accept_changes)
