"""A resumed run is the run that nobody interrupted, bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import RESUMED, SMALL, configured, trained
from support import records

from charlstm.config.schema import Setting
from charlstm.errors import UsageError
from charlstm.nn.optimizers import OPTIMIZERS, SCHEDULES
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.resume import environment
from charlstm.training.run import Training


class TestResume:
    """220 steps at once, and some steps, stop, resume to 220: the same bits."""

    @pytest.mark.parametrize("keys", RESUMED.values(), ids=RESUMED)
    def test_bit_for_bit(self, corpus: Corpus, tmp_path: Path, keys: dict[str, Any]) -> None:
        """Across the edges of three epochs (67 steps) and several evaluations of the held-out
        text; the whole files are equal, metadata and all."""
        keys = {"train_eval_every": 30, "train_epochs": None, **keys}
        whole = tmp_path / "whole.npz"
        trained(corpus, whole, train_steps=220, **keys)
        for stop in (1, 67, 150):
            parts = tmp_path / f"{stop}.npz"
            trained(corpus, parts, train_steps=stop, **keys)
            checkpoint = read_checkpoint(parts)
            checkpoint.config = checkpoint.config.updated([Setting("train.steps", 220, "test")])
            for _ in Training.resume(corpus, checkpoint, parts):
                pass
            with np.load(whole) as a, np.load(parts) as b:
                assert a.files == b.files
                for name in a.files:
                    assert a[name].tobytes() == b[name].tobytes(), (stop, name)
            assert whole.read_bytes() == parts.read_bytes()

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_bit_for_bit_under_every_schedule(
        self, corpus: Corpus, tmp_path: Path, optimizer: str, schedule: str
    ) -> None:
        """Stopped from outside, by each optimizer, in its warm-up and after some looks that were
        no better; the whole files are equal, and so are the rates of all steps."""
        lr = {"sgd": 5.0, "adagrad": 0.5}.get(optimizer, 0.1)
        config = configured(
            **SMALL,
            train_optimizer=optimizer,
            train_schedule=schedule,
            train_lr=lr,
            train_lr_decay=0.5,
            train_lr_divide=1.5,
            train_warm_up=20,
            train_average=0.0,
            train_eval_every=10,
            train_patience=None,
            train_steps=200,
        )
        whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
        expected = [r.lr for r in Training.start(corpus, config, whole)]
        rates = []
        training = Training.start(corpus, config, parts)
        for stop in (11, 150, 200):
            for record in records(training):
                if math.isfinite(record.train):  # a step, not the evaluation at the end
                    rates.append(record.lr)
                if record.step == stop:
                    training.stop()
            training = Training.resume(corpus, read_checkpoint(parts), parts)
        assert rates == expected
        assert len(set(expected[20:])) == 1 if schedule == "constant" else min(expected[20:]) < lr
        assert whole.read_bytes() == parts.read_bytes()

    def test_the_best_weights_survive(self, corpus: Corpus, tmp_path: Path) -> None:
        """Where the best look lies before the stop, the resumed run still has those weights."""
        path = tmp_path / "m.npz"
        keys: dict[str, Any] = {"train_lr": 1.0, "train_eval_every": 5, "train_patience": None}
        training, _ = trained(corpus, path, train_steps=103, **keys)
        best = training.progress.best
        assert best is not None and best.step <= 100
        checkpoint = read_checkpoint(path)
        assert not np.array_equal(training.evaluations.best, checkpoint.last)
        checkpoint.config = configured(**SMALL, train_steps=104, **keys)
        resumed = Training.resume(corpus, checkpoint, path)
        assert len(list(resumed)) == 1
        assert resumed.progress.best == best
        after = read_checkpoint(path)
        kept = after.best if after.looked is None else after.looked
        assert np.array_equal(kept, training.evaluations.best)

    def test_another_corpus_is_refused(self, corpus: Corpus, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        trained(corpus, path, train_steps=2)
        other = dataclasses.replace(corpus, sha256="0" * 64)
        with pytest.raises(UsageError, match="not the one"):
            Training.resume(other, read_checkpoint(path), path)

    def test_another_split_is_refused(self, corpus: Corpus, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        trained(corpus, path, train_steps=2)
        split = dataclasses.replace(corpus, train=corpus.train[:-50])
        with pytest.raises(UsageError, match=r"not the one.*--accept-changes"):
            Training.resume(split, read_checkpoint(path), path)

    def test_an_accepted_corpus(self, corpus: Corpus, tmp_path: Path) -> None:
        """Training goes on with it from the weights as they are; what did best on other held-out
        text does not stand for this one. Another vocabulary, or too few streams, cannot be."""
        path = tmp_path / "m.npz"
        trained(corpus, path, train_steps=65, train_eval_every=30)
        other = dataclasses.replace(corpus, sha256="0" * 64, train=corpus.train[::-1].copy())
        with pytest.raises(UsageError, match="not the one"):
            Training.resume(other, read_checkpoint(path), path)
        checkpoint = read_checkpoint(path)
        last = checkpoint.last.copy()
        assert checkpoint.good is not None
        checkpoint.config = configured(**SMALL, train_steps=70, train_eval_every=30)
        training = Training.resume(other, checkpoint, path, accept_changes=True)
        assert any("measured anew" in notice for notice in training.notices)
        assert np.array_equal(training.learner.model.weights.flat, last)
        assert len(list(training)) == 5
        after = read_checkpoint(path)
        assert after.progress.corpus.sha256 == "0" * 64
        assert after.progress.best is None
        assert len(after.progress.history) == 2
        foreign = Corpus.from_text("0123456789" * 300)
        with pytest.raises(UsageError, match="nor is its vocabulary"):
            Training.resume(foreign, read_checkpoint(path), accept_changes=True)
        small = dataclasses.replace(corpus, train=corpus.train[:300])
        with pytest.raises(UsageError, match="too small for the checkpoint's 4 streams"):
            Training.resume(small, read_checkpoint(path), accept_changes=True)

    def test_a_plateau_over_two_texts(self, corpus: Corpus, tmp_path: Path) -> None:
        """What was reached on the first text is no measure on the second, after a stop either."""
        keys: dict[str, Any] = {
            "train_optimizer": "sgd",
            "train_lr": 1.0,
            "train_schedule": "plateau",
        }
        keys |= {"train_eval_every": 10, "train_patience": None, "train_epochs": None}
        files = [tmp_path / "whole.npz", tmp_path / "parts.npz"]
        easy = corpus.valid[np.arange(len(corpus.valid)) % 3]
        other = dataclasses.replace(corpus, sha256="0" * 64, valid=easy)
        for path, stops in zip(files, ([300], [180, 300]), strict=True):
            trained(other, path, train_steps=100, **keys)
            for text, stop in zip([corpus] * 2, stops, strict=False):
                checkpoint = read_checkpoint(path)
                checkpoint.config = configured(**SMALL, **keys, train_steps=stop)
                for _ in Training.resume(text, checkpoint, path, accept_changes=True):
                    pass
        ends = [read_checkpoint(path) for path in files]
        assert np.array_equal(ends[0].last, ends[1].last)
        assert ends[0].progress == ends[1].progress
        assert ends[0].progress.setbacks > 0

    @pytest.mark.parametrize("name", ["charlstm", "numpy", "blas", "processor"])
    def test_another_environment_is_told(self, corpus: Corpus, tmp_path: Path, name: str) -> None:
        """It is a notice, once: the next file is of this one. Of an older file none is known."""
        path = tmp_path / "m.npz"
        trained(corpus, path, train_steps=2)
        checkpoint = read_checkpoint(path)
        assert checkpoint.progress.environment == environment()
        checkpoint.config = configured(**SMALL, train_steps=4)
        checkpoint.progress.environment = {**environment(), name: "of old"}
        training = Training.resume(corpus, checkpoint, path)
        told = [notice for notice in training.notices if notice.startswith(f"{name} was of old")]
        assert len(told) == 1 and "last digits" in told[0]
        list(training)
        checkpoint = read_checkpoint(path)
        assert checkpoint.progress.environment == environment()
        assert Training.resume(corpus, checkpoint, path).notices == []
        checkpoint.progress.environment = {}
        assert Training.resume(corpus, checkpoint).notices == []

    def test_stopping_from_outside(self, corpus: Corpus, tmp_path: Path) -> None:
        """`stop` ends the iteration after the step, with the checkpoint written."""
        path = tmp_path / "m.npz"
        training = Training.start(corpus, configured(**SMALL), path)
        for record in training:
            if record.step == 7:
                training.stop()
        assert read_checkpoint(path).progress.step == 7
        assert training.finished is None
        assert next(iter(training)).step == 8
