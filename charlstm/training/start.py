"""From files to a run of training, for the command line and for Python."""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charlstm.config.bundle import AUTO, bundled
from charlstm.config.fields import seconds
from charlstm.config.schema import Config, Setting, check
from charlstm.config.sources import read_config
from charlstm.errors import UsageError
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.storage.files import check_apart, claim
from charlstm.storage.lock import Lock, Path_
from charlstm.text.corpus import Corpus
from charlstm.text.reading import Notice
from charlstm.training.auto import TIME, Auto, time_limit
from charlstm.training.ranks import ranks
from charlstm.training.run import Training


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
    chooses = AUTO in names and not resume
    if chooses:
        changes.insert(0, Setting("train.max_time", TIME, AUTO))
    check(changes)  # a wrong setting is told before anything else
    if chooses:
        time_limit(changes)
    began = time.monotonic()
    with _claimed(output) as lock:
        if output is not None and Path(output).exists() and not (resume or force):
            other = "replace it (--force) or write to another file (-o FILE)"
            raise UsageError(f"{output} exists; continue it (--resume), {other}")
        if resume and output is None:
            raise UsageError("nothing to resume: name the checkpoint as output")
        before = read_checkpoint(output) if resume and output is not None else None
        wanted = (Config() if before is None else before.config).updated(changes)
        text = _read(sources, valid, notice, wanted)
        if before is not None:
            training = Training.resume(
                text, before, output, lock, settings=changes, accept_changes=accept_changes
            )
        elif chooses:
            training = Auto(text, changes, began).start(output, lock, notice)
        else:
            training = Training.start(text, wanted, output, lock)
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
