"""What may differ between a checkpoint and the run that resumes it.

The user must accept another corpus or number of ranks. Then the streams are shared out anew, and
what did best on another held-out text counts for nothing. Each setting's declaration says whether
that setting may change. Another build of NumPy or another kind of processor, which change the last
bits at most, are always a notice.
"""

import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np

from charlstm._version import __version__
from charlstm.config.fields import ACCEPTABLE, FATAL, FREE, OnResume
from charlstm.config.schema import KEYS, Config, Setting
from charlstm.errors import UsageError
from charlstm.nn.arrays import Array
from charlstm.storage.checkpoint import Checkpoint, network_shape
from charlstm.storage.lock import Path_
from charlstm.storage.progress import Since, TextIdentity
from charlstm.text.corpus import Corpus
from charlstm.text.visible import escaped
from charlstm.training.plan import fitted


@cache
def environment() -> dict[str, str]:
    """What the last bits of a run depend on besides the run: the versions of this program and of
    NumPy, the BLAS that NumPy was built with, and the processor as far as NumPy and the BLAS
    choose their kernels by it (an OpenBLAS goes by its model too, which nobody tells us)."""
    build = cast("dict[str, dict[str, Any]]", np.show_config(mode="dicts"))
    blas = build.get("Build Dependencies", {}).get("blas", {})
    kernels = build.get("SIMD Extensions", {}).get("found", [])
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return {
        "charlstm": __version__,
        "numpy": np.__version__,
        "blas": " ".join(str(blas.get(key, "unknown")) for key in ("name", "version")),
        "processor": " ".join([platform.machine(), *kernels, *([forced] if forced else [])]),
    }


def identity(corpus: Corpus) -> TextIdentity:
    return TextIdentity(corpus.sha256, len(corpus.train), len(corpus.valid))


def begun(
    checkpoint: Checkpoint, corpus: Corpus, settings: Sequence[Setting]
) -> tuple[Config, Array]:
    """Of a model that was imported, the configuration and the first weights (P,) of a run on a
    corpus, whose vocabulary has the same units, in whatever order. Raises `UsageError` where it has
    others, or settings do not go with the weights."""
    config, old, new = checkpoint.config, checkpoint.vocabulary, corpus.vocabulary
    odd = sorted(set(old.units) ^ set(new.units))
    if old.unit != new.unit or odd:
        listed = ", ".join(f"'{escaped(unit)}'" for unit in odd[:5]) + " …" * (len(odd) > 5)
        what = f"the imported model has {len(old):,} {old.name}s, the corpus {len(new):,}"
        raise UsageError(f"{what}, and only one of them {listed}; give a text with the same units")
    config = config.updated(settings)
    shapes = [network_shape(c, len(old)).weights for c in (checkpoint.config, config)]
    if shapes[0] != shapes[1]:
        raise UsageError("the imported weights are of another network than these settings")
    ids = {unit: k for k, unit in enumerate(old.units)}
    model = checkpoint.model().reordered([ids[unit] for unit in new.units])
    return config, model.weights.flat


class Change(NamedTuple):
    """A difference between a checkpoint and the run that resumes it."""

    kind: OnResume
    notice: str  # what the user should know where the run is resumed, …
    error: str  # … and why it is not


class Resumption(NamedTuple):
    """A checkpoint, and what it is resumed with."""

    checkpoint: Checkpoint
    corpus: Corpus
    settings: Sequence[Setting]
    ranks: int
    output: Path_ | None

    def config(self, shared: bool = False) -> Config:
        """The configuration with the new settings, fitted to the corpus; on request with the
        streams of the checkpoint `shared` out among the ranks."""
        units, streams = len(self.corpus.train) // self.ranks, len(self.checkpoint.state[0])
        config, _ = fitted(self.checkpoint.config.updated(self.settings), units)
        train = dataclasses.replace(config.train, batch=streams // self.ranks)
        return fitted(dataclasses.replace(config, train=train), units)[0] if shared else config

    @property
    def same_text(self) -> bool:
        """Whether the corpus is the one before, with the same split, or as an older version split
        it, which also trained on the line that the split cuts."""
        now, cut = identity(self.corpus), self.corpus.split_at
        return self.checkpoint.progress.corpus in (now, now._replace(train=cut or now.train))

    def changes(self) -> Iterator[Change]:
        """All changes, in the order in which they are reported. Those after one that is refused
        have no meaning."""
        checkpoint, ranks, p = self.checkpoint, self.ranks, self.checkpoint.progress
        after, streams, now = self.config(), len(checkpoint.state[0]), identity(self.corpus)
        for key, _, where in self.settings:
            section, _, name = key.partition(".")
            old, new = (getattr(getattr(c, section), name) for c in (checkpoint.config, after))
            kind = KEYS[key].metadata["on_resume"]
            if old != new and kind is not FREE:
                accept = ", accept it (--accept-changes)" if kind is ACCEPTABLE else ""
                what = f"{key} was {old!r} when the checkpoint was written and is {new!r}"
                error = f"{where}: {key} is {old!r} in {self.output} and cannot change on --resume"
                other = f"leave it out{accept}, or start anew with -o or --force"
                yield Change(kind, what, f"{error}; {other}")
        if p.ranks != ranks:
            many = f"{p.ranks} rank{'s' * (p.ranks > 1)}"
            what = f"the checkpoint was trained on {many}, this is a run on {ranks}"
            other = "with these all the same (--accept-changes), or start anew with -o or --force"
            yield Change(ACCEPTABLE, what, f"{what}; go on with as many, or {other}")
            if streams % ranks:
                error = f"{what}, which cannot share its {streams} streams; start anew"
                yield Change(FATAL, "", error)
        if self.same_text and p.corpus != now:
            what = f"trained on {p.corpus.train:,} units before and on {now.train:,} now"
            yield Change(FREE, f"{what}, so that no line is cut where the text begins again", "")
        what = "the corpus is not the one that the checkpoint was trained on"
        if not self.same_text:
            other = "this one all the same (--accept-changes), or start anew with -o or --force"
            error = f"{what}; give the same text (and --valid), or go on with {other}"
            yield Change(ACCEPTABLE, f"{what}; its held-out loss is measured anew", error)
        if not checkpoint.vocabulary.has_units_of(self.corpus.vocabulary):
            if self.same_text:  # read by other settings of the section `text`
                what = "the settings are not those that the checkpoint was trained with"
            error = f"{what}, nor is its vocabulary; start anew with -o or --force"
            yield Change(FATAL, "", error)
        if self.config(shared=True).train.batch * ranks != streams:
            yield Change(
                FATAL, "", f"the corpus is too small for the checkpoint's {streams} streams"
            )
        if p.adapted:
            what = f"training leaves the adapted weights and goes on from step {p.step:,}"
            yield Change(FREE, what, "")
        for name, version in environment().items():
            was = p.environment.get(name, version)
            if was != version:
                what = f"{name} was {was} when the checkpoint was written and is {version}"
                yield Change(FREE, f"{what}: what comes may differ in the last digits", "")

    def apply(self, accept_changes: bool) -> list[str]:
        """Make the checkpoint one of the run that resumes it; return the notices of the changes.
        Raises `UsageError` at one that is fatal, or that is not accepted."""
        notices = []
        for change in self.changes():
            if change.kind is FATAL or (change.kind is ACCEPTABLE and not accept_changes):
                raise UsageError(change.error)
            notices.append(change.notice)
        config, p, now = self.config(shared=True), self.checkpoint.progress, identity(self.corpus)
        if (p.corpus, p.ranks) != (now, self.ranks) or p.adapted:
            self.checkpoint.good = None  # a state of the run as it had been
        if not self.same_text:  # what did best on another text counts for nothing
            p.best, p.final, p.looks, p.since = None, None, 0, Since(0.0, 0)
        p.corpus, p.ranks, p.environment, p.adapted = now, self.ranks, environment(), 0
        self.checkpoint.config = config
        return notices
