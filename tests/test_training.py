"""Training learns, ends, saves and reports as it is configured to."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import SMALL, configured, trained, values
from support import STORY, records

import charlstm.training.learner
import charlstm.training.run
from charlstm.errors import OutputError, UsageError
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.scoring.evaluation import evaluate
from charlstm.scoring.scorers import StaticScorer
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.learner import Learner
from charlstm.training.plan import AUTO_STEPS, fitted
from charlstm.training.run import Training


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
        exact = evaluate(StaticScorer(training.checkpoint().model()), corpus.valid).nats_per_char
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
        exact = evaluate(StaticScorer(model), corpus.valid).nats_per_char
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
        exact = evaluate(StaticScorer(checkpoint.model()), corpus.valid).nats_per_char
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
