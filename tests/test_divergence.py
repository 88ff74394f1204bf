"""A run that diverges returns to a good state, and nothing bad is saved."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import (
    PLACES,
    SHORT,
    SMALL,
    all_finite,
    configured,
    injected,
    poisoned,
    rollbacks,
    trained,
)
from support import records

import charlstm.training.learner
import charlstm.training.run
from charlstm.errors import DivergedError
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.events import Divergence, Record, Rollback
from charlstm.training.learner import Learner
from charlstm.training.run import Training
from charlstm.training.saving import SavePolicy


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
        # what goes into a step at once is seen in it; sums and averages at the next look
        assert step <= at <= good + 20
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

    def test_the_way_back_is_no_matter_of_time(
        self, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A save that comes due finds what no loss of a step shows: the file at the end is that of
        a run without the save."""
        injected(monkeypatch, {33: poisoned("average inf")})
        files = []
        for due in (False, True):
            monkeypatch.setattr(SavePolicy, "due", lambda *_, due=due: due)
            path = tmp_path / f"{due}.npz"
            training = Training.start(corpus, configured(**SMALL, **SHORT), path)
            assert [r.diverged.step for r in rollbacks(training)] == [40]
            files.append(path.read_bytes())
        assert files[0] == files[1]

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
