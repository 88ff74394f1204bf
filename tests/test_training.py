"""Training: it learns, it resumes bit for bit, it stops when it should."""

from __future__ import annotations

import dataclasses
import math
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import STORY, records

import charlstm.training.learner
import charlstm.training.run
from charlstm.config.schema import Config, Setting
from charlstm.errors import DivergedError, OutputError, UsageError
from charlstm.nn.optimizers import OPTIMIZERS, SCHEDULES
from charlstm.scoring.evaluation import evaluate
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.events import Divergence, Event, Record, Rollback
from charlstm.training.learner import Learner
from charlstm.training.plan import AUTO_STEPS, fitted
from charlstm.training.resume import environment
from charlstm.training.run import Training


def configured(**keys: Any) -> Config:
    """The default configuration with keys such as train_steps=5 set."""
    return Config().updated(
        Setting(key.replace("_", ".", 1), value, "test") for key, value in keys.items()
    )


SMALL = {"model_hidden": 12, "train_batch": 4, "train_length": 10}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """A corner of the English story: an epoch of 4 x 10 characters has 67 steps."""
    text = STORY.read_text(encoding="utf-8")[:3000]
    return Corpus.from_text(text, 0.1)


def trained(corpus: Corpus, path: Path | None = None, **keys: Any) -> tuple[Training, list[Any]]:
    training = Training.start(corpus, configured(**{**SMALL, **keys}), path)
    return training, list(training)


def rollbacks(events: Iterable[Event]) -> list[Rollback]:
    return [event for event in events if isinstance(event, Rollback)]


RESUMED = {
    "as it comes": {},
    "gru, two layers": {"model_cell": "gru", "model_layers": 2},
    "rnn, sgd, value clip, sum": {
        "model_cell": "rnn",
        "train_optimizer": "sgd",
        "train_loss": "sum",
        "train_clip_value": 0.5,
        "train_clip_norm": None,
        "train_lr": 0.01,
    },
    "no average, no resets": {"train_average": 0.0, "train_reset": 0.0},
    "one short stream, sparse steps": {"train_batch": 1, "train_length": 5},
    "the best model lies behind": {"train_lr": 0.5, "train_patience": None},
    "rmsprop, exponential": {
        "train_optimizer": "rmsprop",
        "train_lr": 0.01,
        "train_schedule": "exponential",
        "train_lr_decay": 0.7,
    },
    "adam, warm-up": {"train_optimizer": "adam", "train_lr": 0.01, "train_warm_up": 100},
    "adamw, plateau": {
        "train_optimizer": "adamw",
        "train_weight_decay": 0.1,
        "train_lr": 0.05,
        "train_schedule": "plateau",
        "train_lr_divide": 1.5,
        "train_patience": None,
    },
    "embedding, dropout, one short stream": {
        "train_batch": 1,
        "train_length": 5,
        "model_embedding": 7,
        "model_dropout": 0.2,
    },
    "tied, time-shared dropout": {
        "model_layers": 2,
        "model_hidden": [9, 12],
        "model_embedding": 12,
        "model_tie": True,
        "model_dropout": 0.3,
        "model_variational": True,
    },
    "tied and projected, everything dropped": {
        "model_cell": "gru",
        "model_embedding": 7,
        "model_tie": True,
        "model_dropout": 0.2,
        "model_weight_drop": 0.3,
        "model_input_drop": 0.1,
        "train_shards": 2,
    },
    "adam, one short stream": {
        "train_optimizer": "adam",
        "train_lr": 0.01,
        "train_batch": 1,
        "train_length": 5,
    },
}
"""Runs whose limit may be raised on the way."""


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


class TestEnds:
    def test_steps_and_epochs(self, corpus: Corpus) -> None:
        assert len(trained(corpus, train_steps=5)[1]) == 5
        training, records = trained(corpus, train_epochs=2)
        assert len(records) == training.plan.total_steps == math.ceil(2 * 2700 / 40)
        assert records[-1].epoch >= 2 > records[-2].epoch
        assert training.finished == "2 epochs done"

    def test_time(self, corpus: Corpus) -> None:
        training, records = trained(corpus, train_max_time="0.2s", train_epochs=None)
        assert records[-1].seconds < 5
        assert training.finished is None

    def test_patience(self, corpus: Corpus) -> None:
        """Training ends when held-out loss has not fallen for so many looks, and not before."""
        training, records = trained(
            corpus, train_lr=1.0, train_eval_every=5, train_patience=4, train_epochs=None
        )
        looks = [r for r in records if r.valid is not None]
        assert [r.best for r in looks[-5:]] == [True, False, False, False, False]
        assert training.best_valid == min(r.valid for r in looks if r.valid is not None)

    def test_auto_epochs_and_shrinking(self) -> None:
        config, notice = fitted(configured(), 10_000_000)
        assert (config.train.batch, config.train.epochs, notice) == (32, 20, None)
        config, notice = fitted(configured(), 5)
        assert (config.train.batch, config.train.length) == (1, 5)
        assert config.train.epochs == AUTO_STEPS
        assert notice is not None and "5 characters" in notice
        config, _ = fitted(configured(train_epochs=3), 5)
        assert config.train.epochs == 3


class TestSchedules:
    """The rates of a run; what a schedule gives is shown in test_optimizers."""

    def test_constant_is_the_default(self, corpus: Corpus) -> None:
        assert {r.lr for r in trained(corpus, train_steps=70)[1]} == {0.1}

    def test_exponential_falls_where_an_epoch_ends(self, corpus: Corpus) -> None:
        """An epoch is 67.5 steps: the rates of the steps 1 to 68, to 135, to 203 and so on."""
        keys: dict[str, Any] = {
            "train_schedule": "exponential",
            "train_lr_decay": 0.5,
            "train_lr_decay_after": 2,
        }
        _, records = trained(corpus, train_epochs=4, **keys)
        expected = [0.1] * 135 + [0.05] * (203 - 135) + [0.025] * (270 - 203)
        assert [r.lr for r in records] == pytest.approx(expected)

    @pytest.mark.parametrize("limits", [{"train_steps": 50}, {"train_epochs": 1}])
    def test_cosine_ends_with_the_run(self, corpus: Corpus, limits: dict[str, Any]) -> None:
        """By whichever limit: the last step is one step of the wave from the floor."""
        keys: dict[str, Any] = {
            "train_schedule": "cosine",
            "train_lr_min": 0.02,
            "train_warm_up": 4,
        }
        training, records = trained(corpus, **keys, **limits)
        n = len(records)
        assert n == training.plan.total_steps
        assert [r.lr for r in records[:5]] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
        last = 0.02 + 0.08 * (1 + math.cos(math.pi * (n - 5) / (n - 4))) / 2
        assert records[-1].lr == pytest.approx(last)
        assert training.plan.learning_rate(training.progress) == pytest.approx(0.02)

    def test_cosine_without_an_end_is_refused(self, corpus: Corpus, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        keys: dict[str, Any] = {
            "train_schedule": "cosine",
            "train_epochs": None,
            "train_max_time": "1s",
        }
        with pytest.raises(UsageError, match="--steps or --epochs"):
            trained(corpus, path, **keys)
        assert not path.exists()

    def test_plateau_divides_after_each_look_that_is_no_better(self, corpus: Corpus) -> None:
        keys: dict[str, Any] = {"train_schedule": "plateau", "train_lr": 1.0, "train_eval_every": 5}
        training, records = trained(corpus, train_steps=150, train_patience=None, **keys)
        rate = 1.0
        for record in records:
            assert record.lr == pytest.approx(rate)
            if record.valid is not None and not record.best:
                rate /= 4.0
        assert rate < 1.0
        assert training.plan.learning_rate(training.progress) == pytest.approx(rate)

    def test_plateau_with_nothing_held_out(self) -> None:
        """It is said, and training goes on at the one rate."""
        config = configured(train_schedule="plateau", train_steps=5, train_eval_every=1)
        training = Training.start(Corpus.from_text("hello"), config)
        assert any("plateau" in notice for notice in training.notices)
        assert [r.lr for r in training] == [0.1] * 5

    def test_another_schedule_from_here_on(self, corpus: Corpus, tmp_path: Path) -> None:
        """A rate depends on where the run stands, as if the schedule had been that one before."""
        path = tmp_path / "m.npz"
        trained(corpus, path, train_steps=50)
        checkpoint = read_checkpoint(path)
        checkpoint.config = configured(**SMALL, train_steps=100, train_schedule="cosine")
        rates = [r.lr for r in Training.resume(corpus, checkpoint, path)]
        assert rates[0] == pytest.approx(0.05)
        assert len(rates) == 50 and rates[-1] < 1e-4

    def test_the_sample_at_the_beginning_has_the_first_rate(self, corpus: Corpus) -> None:
        _, records = trained(corpus, train_sample_at=[0], train_warm_up=9, train_steps=1)
        assert [r.lr for r in records] == pytest.approx([0.01, 0.01])


class TestFamily:
    """Embedding, tying, widths and dropout in a run."""

    @pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
    def test_sparse_steps_of_an_embedding(
        self, monkeypatch: pytest.MonkeyPatch, optimizer: str
    ) -> None:
        """Where a segment has few of the characters, only their rows are stepped: the weights are
        those of steps of all; a tied embedding has a gradient everywhere, and steps of all."""
        text = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x4F00, 3000)))
        keys: dict[str, Any] = {"train_batch": 2, "train_length": 5, "train_optimizer": optimizer}
        keys |= {"model_hidden": 8, "model_embedding": 8, "train_steps": 60, "train_lr": 0.1}
        finals = []
        for sparse in (6, 10**9):
            monkeypatch.setattr(charlstm.training.learner, "SPARSE", sparse)
            training = Training.start(Corpus.from_text(text), configured(**keys))
            assert training.learner.sparse == (sparse == 6)
            list(training)
            finals.append(training.learner.model.weights.flat.tobytes())
        assert finals[0] == finals[1]
        monkeypatch.setattr(charlstm.training.learner, "SPARSE", 6)
        assert not Training.start(
            Corpus.from_text(text), configured(**keys, model_tie=True)
        ).learner.sparse

    def test_the_seed_decides_what_is_dropped(self, corpus: Corpus) -> None:
        """Two runs alike but for the seed of the masks, and one without: three courses."""
        courses = []
        for dropout, seed in ((0.0, 0), (0.3, 0), (0.3, 1), (0.3, 0)):
            training = Training.start(corpus, configured(**SMALL, model_dropout=dropout))
            object.__setattr__(training.learner.shards.job, "seed", seed)
            steps = records(training)
            courses.append([next(steps).train for _ in range(3)])
        assert courses[1] == courses[3]
        assert len({tuple(course) for course in courses}) == 3

    @pytest.mark.parametrize("V", [20, 2000])
    def test_dropped_input_is_what_unknown_words_are(self, V: int) -> None:
        """Words that are dropped are read as `<unk>`, which learns by that, whether all rows take
        a step or only those of what was read."""
        words = " ".join(f"w{k % V}" for k in range(2 * V))
        learnt = {}
        for share in (0.0, 0.5):
            keys: dict[str, Any] = {
                "model_input_drop": share,
                "train_optimizer": "sgd",
                "train_lr": 1.0,
            }
            keys |= {"train_average": 0.0, "model_embedding": 3, "train_batch": 1}
            training = Training.start(
                Corpus.from_text(words, 0.0, unit="word"), configured(**{**SMALL, **keys})
            )
            row = training.learner.model.weights["E"][0]  # of <unk>
            before = row.copy()
            next(iter(training))
            learnt[training.learner.sparse, share] = not np.array_equal(before, row)
        assert learnt == {(V > 1000, 0.0): False, (V > 1000, 0.5): True}

    def test_held_out_text_is_measured_with_everything(self, corpus: Corpus) -> None:
        """No dropout in looks at held-out text, in what is evaluated, and in samples."""
        drops: dict[str, Any] = {
            "model_dropout": 0.5,
            "model_weight_drop": 0.5,
            "model_input_drop": 0.5,
        }
        training, _ = trained(corpus, train_steps=70, train_eval_every=35, **drops)
        exact = evaluate(training.checkpoint().model(), corpus.valid).nats_per_char
        assert training.held_out_loss() == pytest.approx(exact, abs=2e-3)
        assert training.learner.sample() == training.learner.sample()

    def test_dropout_keeps_a_model_from_learning_by_heart(self) -> None:
        """On little text it keeps the held-out loss from rising again, and the training loss up."""
        text = STORY.read_text(encoding="utf-8")[:6000]
        ends = {}
        for dropout in (0.0, 0.5):
            keys: dict[str, Any] = {"model_hidden": 64, "model_embedding": 32, "train_steps": 1500}
            keys |= {"train_batch": 4, "train_length": 20, "train_epochs": None}
            keys |= {"train_patience": None}
            training = Training.start(
                Corpus.from_text(text), configured(**keys, model_dropout=dropout)
            )
            losses = [record.train for record in records(training)]
            assert training.progress.history
            ends[dropout] = (training.progress.history[-1][2], np.mean(losses[-50:]))
        assert ends[0.5][0] < ends[0.0][0] - 0.1
        assert ends[0.5][1] > ends[0.0][1]


class TestLearning:
    @pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
    def test_hello(self, cell: str) -> None:
        """A corpus of five characters is learnt by every cell, from any beginning."""
        from charlstm.api import LanguageModel

        for seed in range(5):
            corpus = Corpus.from_text("hello")
            training = Training.start(corpus, configured(model_cell=cell, train_rng_seed=seed))
            for _ in training:
                pass
            model = LanguageModel(training.checkpoint())
            assert "".join(model.sample("hell", length=1, temperature=0.0)) == "o"

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_every_optimizer_learns(self, corpus: Corpus, optimizer: str) -> None:
        lr = {"sgd": 1.0, "adagrad": 0.1}.get(optimizer, 0.01)
        keys: dict[str, Any] = {
            "train_optimizer": optimizer,
            "train_lr": lr,
            "train_weight_decay": 0.01,
        }
        _, records = trained(corpus, train_steps=400, train_patience=None, **keys)
        assert records[-1].train < records[0].train - 0.7

    def test_one_character_over_and_over(self) -> None:
        """A vocabulary of one: nothing to learn, nothing that breaks."""
        training = Training.start(Corpus.from_text("a" * 300), configured(train_steps=3))
        assert [r.train for r in records(training)] == pytest.approx([0.0] * 3, abs=1e-6)

    def test_the_loss_falls(self, corpus: Corpus) -> None:
        _, records = trained(corpus, train_steps=400, model_hidden=30)
        assert records[-1].train < records[0].train - 1.0

    def test_the_average(self, corpus: Corpus) -> None:
        """The weights that are used are the running average, short at first, then of decay d."""
        training = Training.start(corpus, configured(**SMALL, train_steps=40, train_average=0.75))
        expected = training.learner.model.weights.flat.copy()
        for record in training:
            decay = min(0.75, record.step / (record.step + 10))
            expected = decay * expected + (1 - decay) * training.learner.model.weights.flat
            np.testing.assert_allclose(training.learner.used.weights.flat, expected, atol=1e-6)

    def test_the_held_out_loss_is_that_of_the_kept_weights(self, corpus: Corpus) -> None:
        training, _ = trained(corpus, train_steps=120)
        model = training.checkpoint().model()
        exact = evaluate(model, corpus.valid).nats_per_char
        assert training.held_out_loss() == pytest.approx(exact, abs=2e-3)

    def test_before_the_first_look(self, corpus: Corpus) -> None:
        """A run that ends before its first look keeps the weights it has, not those it began
        with."""
        training, records = trained(corpus, train_steps=10)
        checkpoint = training.checkpoint()
        assert training.best_valid is None
        assert np.array_equal(checkpoint.best, training.learner.used.weights.flat)
        assert checkpoint.looked is None
        assert training.in_use == (10, records[-1].valid)
        assert training.held_out_loss() == records[-1].valid

    def test_same_seed_same_bits_and_looking_on_changes_nothing(self, corpus: Corpus) -> None:
        keys: dict[str, Any] = {"train_steps": 30}
        one = trained(corpus, **keys)[0].learner.model.weights.flat
        training = Training.start(corpus, configured(**SMALL, **keys, train_sample_every=7))
        samples = [r.sample for r in records(training) if r.sample is not None]
        assert len(samples) == 4 and len(set(samples)) == 4
        assert np.array_equal(one, training.learner.model.weights.flat)
        other = trained(corpus, train_rng_seed=1, **keys)[0]
        assert not np.array_equal(one, other.learner.model.weights.flat)

    def test_samples_at_steps(self, corpus: Corpus) -> None:
        config = configured(**SMALL, train_sample_at=[0, 3], train_steps=5)
        shown = list(records(Training.start(corpus, config)))
        assert [r.step for r in shown if r.sample is not None] == [0, 3]
        assert [r.step for r in shown] == [0, 1, 2, 3, 4, 5]

    def test_clipping(self, corpus: Corpus) -> None:
        """With the gradient clipped to next to nothing, SGD goes next to nowhere."""
        keys: dict[str, Any] = {"train_steps": 1, "train_optimizer": "sgd", "train_lr": 1.0}
        begin = trained(corpus, train_steps=1, train_optimizer="sgd", train_lr=1e-30)[0]
        for clip, bound in (("train_clip_norm", 1e-3), ("train_clip_value", 1e-3)):
            end = trained(corpus, **{**keys, "train_clip_norm": None, clip: 1e-3})[0]
            moved = end.learner.model.weights.flat - begin.learner.model.weights.flat
            size = np.linalg.norm(moved) if clip == "train_clip_norm" else np.abs(moved).max()
            assert 0.9 * bound < size < 1.1 * bound


class TestTrouble:
    def test_a_save_that_fails_on_the_way(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Training goes on and says so; the next save is tried again."""
        path = tmp_path / "m.npz"
        calls = []

        def failing(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) == 1:
                raise OutputError("m.npz: cannot be written: No space left on device")
            write_checkpoint(*arguments)

        monkeypatch.setattr("charlstm.training.saving.write_checkpoint", failing)
        config = configured(**SMALL, train_steps=10, train_save_every=5)
        steps = list(records(Training.start(corpus, config, path)))
        assert [r.step for r in steps if r.notice] == [5]
        assert [r.step for r in steps if r.saved] == [10]
        assert len(calls) == 2
        assert read_checkpoint(path).progress.step == 10

    def test_a_new_best_waits_where_saving_would_take_long(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step takes a second, and a save 0.09 seconds: so that this is 2 % of the time at most,
        there are 4.5 seconds to the next one, which may be between two looks; none is forgotten."""
        now = [0.0]

        def slowly(*arguments: Any) -> None:
            write_checkpoint(*arguments)
            now[0] += 0.09

        monkeypatch.setattr("charlstm.training.run.time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr("charlstm.training.saving.write_checkpoint", slowly)
        path = tmp_path / "m.npz"
        config = configured(**SMALL, train_eval_every=2, train_steps=20, train_workers=1)
        bests, saves = [], []
        for record in records(Training.start(corpus, config, path)):
            if record.best:
                bests.append(record.step)
            if record.saved:
                saves.append(record.step)
                best = read_checkpoint(path).progress.best
                assert best is not None and best.step == bests[-1]
            now[0] += 1.0
        assert bests == list(range(2, 21, 2))
        assert saves == [2, 7, 12, 17, 20]
        best = read_checkpoint(path).progress.best
        assert best is not None and best.step == 20

    def test_the_last_save_that_fails_is_an_error(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        training = Training.start(corpus, configured(**SMALL, train_steps=3), tmp_path / "m.npz")

        def failing(*arguments: Any) -> None:
            raise OutputError("full")

        monkeypatch.setattr("charlstm.training.saving.write_checkpoint", failing)
        with pytest.raises(OutputError):
            list(training)


def poisoned(name: str) -> Callable[[Training], None]:
    """Something that puts a number that is not finite where `name` says."""

    def poison(training: Training) -> None:
        value = {"nan": math.nan, "inf": math.inf}[name.split()[1]]
        arrays = {
            "weights": training.learner.model.weights["layer0.Wh"],
            "output": training.learner.model.weights["by"],
            "average": training.learner.average,
            "squares": training.learner.optimizer.state["squares"],
            "state": training.learner.state[1],
        }
        array = arrays[name.split()[0]]
        assert array is not None
        array.reshape(-1)[1] = value

    return poison


def injected(
    monkeypatch: pytest.MonkeyPatch, at: dict[int, Callable[[Training], None]], times: int = 1
) -> None:
    """Have what `at` tells happen before the step that follows so many; of a run that has gone
    back so often already that it is `times`, no more. What happens depends on the run alone, not
    on how often it was interrupted."""
    do = Training._do_step

    def step(self: Training, *arguments: Any) -> Any:
        if self.step in at and len(self.progress.rollbacks) < times:
            at[self.step](self)
        return do(self, *arguments)

    monkeypatch.setattr(Training, "_do_step", step)


def all_finite(path: Path) -> bool:
    with np.load(path) as archive:
        floats = [archive[name] for name in archive.files if archive[name].dtype.kind == "f"]
    assert floats
    return all(np.isfinite(array).all() for array in floats)


PLACES = {"weights": "the weights layer0.Wh", "output": "the weights by"}
PLACES |= {"average": "the average of layer0.Wx", "squares": "the squares of layer0.Wx"}
PLACES |= {"state": "the state layer0.c"}
SHORT = {"train_steps": 60, "train_eval_every": 20, "train_save_every": 7, "train_epochs": None}


class TestDivergence:
    """A number that is not finite: seen, never saved, and the run goes on from its last good
    state."""

    @pytest.mark.parametrize("step", [3, 34])
    @pytest.mark.parametrize("value", ["nan", "inf"])
    @pytest.mark.parametrize("place", PLACES)
    def test_twenty_injections(
        self,
        corpus: Corpus,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
        value: str,
        step: int,
    ) -> None:
        """Whatever is poisoned, no file is, at no time; and the run gets to its end."""
        injected(monkeypatch, {step: poisoned(f"{place} {value}")})
        path = tmp_path / "m.npz"
        training = Training.start(corpus, configured(**SMALL, **SHORT), path)
        records, checked = [], 0
        for record in training:
            records.append(record)
            written = path.stat().st_mtime_ns if path.exists() else 0
            assert written == checked or all_finite(path)
            checked = written
        (back,) = rollbacks(records)
        good = step // 20 * 20
        assert (back.step, records[-1].step) == (good, 60)
        assert f"step {back.diverged.step}: " in back.notice
        assert all(isinstance(r, Record) for r in records if r is not back)
        rates = {record.lr for record in records[records.index(back) :]}
        assert rates == {0.05}
        checkpoint = read_checkpoint(path)
        ((at, what, to),) = checkpoint.progress.rollbacks
        assert (at, what, to) == (back.diverged.step, back.diverged.what, good)
        assert not back.diverged.finite
        # what goes into a step at once is seen in it; sums and averages when a look or a save is
        assert step <= at <= -(-(step + 1) // 7) * 7
        if place in ("weights", "output") or value == "nan":
            assert what in (PLACES[place], "the weights layer0.Wx", "the state layer0.h")

    @pytest.mark.parametrize(
        ("place", "value", "what"),
        [
            (slice(-1, None), math.nan, "the gradient of by"),
            (slice(None), 1e30, "the gradient"),  # its norm alone is not finite
            (slice(0), 0.0, "the loss"),
        ],
    )
    def test_what_is_not_finite_is_named(
        self,
        corpus: Corpus,
        monkeypatch: pytest.MonkeyPatch,
        place: slice,
        value: float,
        what: str,
    ) -> None:
        """A gradient, or its norm, or the loss alone, before any weight has seen it."""
        training = Training.start(corpus, configured(**SMALL, **SHORT))
        train, weights = training.learner.shards.train, training.learner.model.weights.flat.copy()

        def spoilt(*arguments: Any) -> float:
            nats = train(*arguments)
            if training.progress.rollbacks:
                return nats
            assert np.array_equal(training.learner.model.weights.flat, weights)
            training.learner.gradient[place] = value
            return math.nan if what == "the loss" else nats

        monkeypatch.setattr(training.learner.shards, "train", spoilt)
        assert [r.diverged for r in rollbacks(training)] == [Divergence(1, what)]

    def test_it_ends_where_going_back_does_not_help(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After three returns, with the file as it was; the error names step and array."""
        injected(monkeypatch, {34: poisoned("weights nan")}, times=99)
        path = tmp_path / "m.npz"
        records = []
        with pytest.raises(DivergedError) as caught:
            for record in Training.start(corpus, configured(**SMALL, **SHORT), path):
                records.append(record)
        assert caught.value.exit_code == 4
        message = str(caught.value)
        assert message.startswith("training diverged at step 34: the weights layer0.Wh is not")
        assert "3 returns" in message and "train.lr" in message
        assert [r.step for r in rollbacks(records)] == [20] * 3
        assert [r.lr for r in records if r.step == 21] == [0.1, 0.05, 0.025, 0.0125]
        assert all_finite(path)
        assert read_checkpoint(path).progress.step == 28
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m.npz"]

    @pytest.mark.parametrize("keys", [{}, {"train_optimizer": "adam", "train_lr": 0.01}])
    def test_resume_is_bit_for_bit_through_it(
        self,
        corpus: Corpus,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        keys: dict[str, Any],
    ) -> None:
        """Stopped after any record, between looks too, before, between and after two returns:
        the whole files are equal."""
        at = {33: poisoned("weights nan"), 47: poisoned("state nan")}
        do = Training._do_step

        def step(self: Training, *arguments: Any) -> Any:
            for turn, when in enumerate(at):
                if self.step == when and len(self.progress.rollbacks) == turn:
                    at[when](self)
            return do(self, *arguments)

        monkeypatch.setattr(Training, "_do_step", step)
        config = configured(**{**SMALL, **SHORT, **keys})
        whole = tmp_path / "whole.npz"
        records = list(Training.start(corpus, config, whole))
        assert [r.step for r in rollbacks(records)] == [20, 40]
        assert len(records) == 60 + 2 + 13 + 7
        for stop in [1, 19, 20, 30, 33, 34, 35, 40, 52, 54, 60, 61, 62, 63, 70, 80]:
            parts = tmp_path / f"{stop}.npz"
            training = Training.start(corpus, config, parts)
            for n, _ in enumerate(training, 1):
                if n == stop:
                    training.stop()
            assert training.finished is None
            checkpoint = read_checkpoint(parts)
            assert (checkpoint.good is None) == (training.step % 20 == 0)
            write_checkpoint(tmp_path / "copy.npz", checkpoint)
            assert (tmp_path / "copy.npz").read_bytes() == parts.read_bytes()
            list(Training.resume(corpus, checkpoint, parts))
            assert parts.read_bytes() == whole.read_bytes(), stop

    def test_a_stop_right_after_it(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped while the state is bad, and nobody has seen that yet: the good one is saved."""
        path = tmp_path / "m.npz"
        training = Training.start(corpus, configured(**SMALL, **SHORT), path)
        records = []
        for record in training:
            records.append(record)
            if record.step == 33 and not isinstance(record, Rollback):
                poisoned("weights nan")(training)
                training.stop()
        assert rollbacks(records[-1:])[0].diverged == Divergence(33, "the weights layer0.Wh")
        assert read_checkpoint(path).progress.step == 20
        assert all_finite(path)

    def test_saving_by_hand_is_refused(self, corpus: Corpus, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        training = Training.start(corpus, configured(**SMALL), path)
        training.save()
        before = path.read_bytes()
        poisoned("output nan")(training)
        with pytest.raises(DivergedError):
            training.save()
        assert path.read_bytes() == before

    def test_a_state_on_its_way_out_is_not_kept(self, corpus: Corpus) -> None:
        """A look at a model whose held-out loss has risen by more than that of guessing leaves
        the older state to go back to."""
        training = Training.start(corpus, configured(**SMALL, **SHORT))
        for record in records(training):
            if record.step == 30:
                assert training.learner.average is not None
                training.learner.used.weights["by"][0] += 1e3
            if record.step == 40:
                assert record.valid is not None and record.valid > 20
                assert training.evaluations.good.progress.step == 20
        assert training.progress.rollbacks == []

    def test_with_several_processes(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As many as there are give the same file."""
        injected(monkeypatch, {34: poisoned("weights nan")})
        monkeypatch.setattr(charlstm.training.run, "WORKERS_AFTER", 0.0)
        files = []
        for workers in (1, 3):
            path = tmp_path / f"{workers}.npz"
            keys: dict[str, Any] = {**SMALL, **SHORT, "train_shards": 3, "train_workers": workers}
            training = Training.start(corpus, configured(**keys), path)
            for _ in training:
                while any(not (w.ready or w.waits()) for w in training.learner.shards.workers):
                    time.sleep(0.01)
                assert len(training.learner.shards.workers) == workers - 1
            assert training.progress.rollbacks == [(34, "the weights layer0.Wh", 20)]
            checkpoint = read_checkpoint(path)
            files.append((checkpoint.last.tobytes(), checkpoint.progress))
        assert files[0] == files[1]


class TestFarAboveGuessing:
    """Losses that are finite, but stay far above what guessing costs, are a divergence, too."""

    @pytest.mark.parametrize("steps", [30, 200])
    @pytest.mark.parametrize("keys", [{}, {"train_eval_every": 7}, {"text_valid": 0.0}])
    def test_it_ends_in_an_error(
        self, corpus: Corpus, tmp_path: Path, steps: int, keys: dict[str, Any]
    ) -> None:
        """Also where nothing is held out, and in a run that ends before its first look."""
        path = tmp_path / "m.npz"
        if "text_valid" in keys:
            corpus = dataclasses.replace(corpus, valid=corpus.valid[:0])
        config = configured(**{**SMALL, "train_lr": 1000.0, "train_steps": steps, **keys})
        with pytest.raises(DivergedError, match=r"where guessing costs 3\.8, after 3 returns"):
            list(Training.start(corpus, config, path))

    def test_it_goes_back_and_recovers(self, corpus: Corpus, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        training, records = trained(corpus, path, train_lr=30.0, train_steps=300)
        back = [record.diverged for record in rollbacks(records)]
        assert back and all(each.what == "the training loss" and each.finite for each in back)
        assert records[-1].lr == 30.0 * 0.5 ** len(back)
        used = training.in_use
        assert used is not None and used[1] < math.log(len(corpus.vocabulary))

    @pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
    def test_a_model_that_learns_may_begin_badly(self, corpus: Corpus, cell: str) -> None:
        """Adagrad's first steps are long: they are no divergence, however often one looks."""
        keys: dict[str, Any] = {
            "model_cell": cell,
            "model_hidden": 100,
            "train_eval_every": 1,
            "train_lr": 0.2,
        }
        training, records = trained(corpus, train_steps=70, train_patience=None, **keys)
        assert max(r.train for r in records) > math.log(len(corpus.vocabulary)) + 1.0
        assert training.progress.rollbacks == []

    def test_learning_by_heart_is_none(self, corpus: Corpus, monkeypatch: Any) -> None:
        """However bad the held-out loss: what is trained on is known well."""
        monkeypatch.setattr(Learner, "measure", lambda self: 50.0)
        training, _ = trained(corpus, train_steps=200, train_patience=None)
        assert training.progress.rollbacks == []

    def test_an_end_by_time_is_no_success(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is no time to try again: the file holds the state to go on from."""
        now = iter(range(10**6))
        clock = SimpleNamespace(monotonic=lambda: float(next(now)))
        monkeypatch.setattr("charlstm.training.run.time", clock)
        path = tmp_path / "m.npz"
        config = configured(**{**SMALL, "train_lr": 100.0, "train_max_time": "90s"})
        with pytest.raises(DivergedError, match="the time is over and nothing is learnt"):
            list(Training.start(corpus, config, path))
        progress = read_checkpoint(path).progress
        assert progress.step == 0 and len(progress.rollbacks) == 1


def values(losses: dict[int, float]) -> Callable[[Learner], float]:
    """Held-out losses by step, to be measured."""
    return lambda learner: losses[learner.progress.step]


class TestTheEnd:
    """However a run ends, its last weights are evaluated once, and used if they are the best."""

    @pytest.mark.parametrize("how", ["steps", "stop", "time"])
    def test_the_last_weights_are_used(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        path, end = tmp_path / "m.npz", 101
        if how == "time":
            now = [0.0]
            clock = SimpleNamespace(monotonic=lambda: now[0])
            monkeypatch.setattr("charlstm.training.run.time", clock)
        limits: dict[str, dict[str, Any]] = {
            "steps": {"train_steps": end},
            "stop": {},
            "time": {"train_max_time": "101s"},
        }
        training = Training.start(corpus, configured(**SMALL, **limits[how]), path)
        steps = []
        for record in records(training):
            steps.append(record)
            if how == "stop" and record.step == end:
                training.stop()
            if how == "time":
                now[0] = record.step + 0.5
        last = steps[-1]
        assert last.step == training.step and last.step in (101, 102)
        assert last.valid is not None and last.best and last.saved
        assert [r.step for r in steps if r.valid is not None] == [67, last.step]
        checkpoint = read_checkpoint(path)
        assert checkpoint.progress.in_use == (last.step, last.valid) == training.in_use
        assert np.array_equal(checkpoint.best, training.learner.used.weights.flat)
        assert checkpoint.looked is not None
        assert not np.array_equal(checkpoint.best, checkpoint.looked)
        exact = evaluate(checkpoint.model(), corpus.valid).nats_per_char
        assert last.valid == pytest.approx(exact, abs=2e-3)
        best = checkpoint.progress.best
        assert best is not None and best.step == 67
        assert [row[0] for row in checkpoint.progress.history] == [67]

    def test_worse_weights_are_not_used(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Learner, "measure", values({67: 2.0, 101: 2.5}))
        path = tmp_path / "m.npz"
        training, records = trained(corpus, path, train_steps=101)
        assert (records[-1].valid, records[-1].best) == (2.5, False)
        checkpoint = read_checkpoint(path)
        assert checkpoint.progress.in_use == (67, 2.0) and checkpoint.looked is None
        assert np.array_equal(checkpoint.best, training.evaluations.best)

    def test_an_end_in_a_look_is_evaluated_once(
        self, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps = []

        def measured(learner: Learner) -> float:
            steps.append(learner.progress.step)
            return 2.0

        monkeypatch.setattr(Learner, "measure", measured)
        trained(corpus, train_steps=134)
        assert steps == [67, 134]

    def test_resuming_knows_nothing_of_it(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that stops where it is better than at any look comes to the file of one that
        never stopped."""
        losses = {67: 2.0, 101: 1.0, 134: 1.8, 201: 1.9, 210: 1.85}
        monkeypatch.setattr(Learner, "measure", values(losses))
        whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
        config = configured(**SMALL, train_steps=210)
        list(Training.start(corpus, config, whole))
        training = Training.start(corpus, config, parts)
        for record in training:
            if record.step == 101:
                training.stop()
        stopped = read_checkpoint(parts)
        assert stopped.progress.in_use == (101, 1.0)
        again = tmp_path / "again.npz"
        write_checkpoint(again, stopped)
        assert again.read_bytes() == parts.read_bytes()
        list(Training.resume(corpus, stopped, parts))
        assert parts.read_bytes() == whole.read_bytes()
        assert read_checkpoint(parts).progress.in_use == (134, 1.8)

    def test_it_is_saved_before_it_is_evaluated(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second signal, which ends the process at once, costs the evaluation alone."""
        path = tmp_path / "m.npz"

        def killed(learner: Learner) -> float:
            raise KeyboardInterrupt

        monkeypatch.setattr(Learner, "measure", killed)
        training = Training.start(corpus, configured(**SMALL), path)
        with pytest.raises(KeyboardInterrupt):
            for record in training:
                if record.step == 30:
                    training.stop()
        assert read_checkpoint(path).progress.step == 30

    def test_nothing_held_out(self, tmp_path: Path) -> None:
        corpus = Corpus.from_text("the lamp " * 200, 0.0)
        training, records = trained(corpus, tmp_path / "m.npz", train_steps=20)
        assert records[-1].valid is None and training.in_use is None
        assert np.array_equal(
            read_checkpoint(tmp_path / "m.npz").best, training.learner.used.weights.flat
        )


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_step_allocates_next_to_nothing(cell: str) -> None:
    """All the large arrays exist beforehand: a step allocates ids and states, nothing that has
    T x B x H elements, and keeps none of it."""
    text = STORY.read_text(encoding="utf-8")
    keys: dict[str, Any] = {
        "train_batch": 16,
        "train_shards": 1,
        "train_workers": 1,
        "train_eval_every": 10**6,
    }
    config = configured(**{**keys, "model_cell": cell, "train_epochs": None, "train_steps": 20})
    steps = iter(Training.start(Corpus.from_text(text), config))
    for _ in range(5):
        next(steps)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            tracemalloc.reset_peak()
            next(steps)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 0.5 * 50 * 16 * 100 * 4
        after, _ = tracemalloc.get_traced_memory()
        assert after - before < 20_000
    finally:
        tracemalloc.stop()
