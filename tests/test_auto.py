"""`-c auto`: the configuration that makes the most of a time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import ROOT, STORY, fails, run, wait_for

import charlstm
from charlstm.config.fields import seconds
from charlstm.config.schema import Config, Setting
from charlstm.errors import UsageError
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.storage.progress import Score
from charlstm.text.corpus import Corpus
from charlstm.training import auto, rules
from charlstm.training.auto import Auto
from charlstm.training.learner import Learner
from charlstm.training.rules import PROSE, RECORDS, operations
from charlstm.training.run import Training

ENDLESS = ("--set", "train.max_time=null")
LIMITS = ("10s", "60s", "10m", "1h", "24h", "300h")
LOG = "".join(
    f"2026-01-01 12:00:{k % 60:02} host{k % 7} sshd: session {k} opened for root\n"
    for k in range(4000)
)


class Choice(NamedTuple):
    config: Config
    auto: Auto


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """A megabyte of 60 letters."""
    letters = np.random.default_rng(0).integers(32, 92, 1_000_000)
    return Corpus.from_text(letters.astype(np.uint8).tobytes().decode())


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Choice]:
    """What is chosen on a machine of some operations a second, where no time passes."""

    def choose(corpus: Corpus, limit: str, rate: float = 1e11, **settings: Any) -> Choice:
        def speed(self: Auto, config: Config) -> float:
            return rate / operations(config, len(corpus.vocabulary))

        monkeypatch.setattr(Auto, "_speed", speed)
        monkeypatch.setattr("charlstm.training.auto.time.monotonic", lambda: 50.0)
        keys = {"train.max_time": limit, **settings}
        chosen = Auto(corpus, [Setting(k, v, "test") for k, v in keys.items()], 50.0)
        return Choice(chosen.choose(), chosen)

    return choose


def test_more_time_makes_more_of_a_text(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    """A larger network, of which more is dropped, and steps that fill the time."""
    costs, dropouts = [], []
    for limit in LIMITS:
        config = choice(corpus, limit).config
        t, cost = config.train, operations(config, len(corpus.vocabulary))
        assert isinstance(t.steps, int)
        assert isinstance(config.model.hidden, int)
        costs.append(cost)
        dropouts.append(config.model.dropout)
        planned = t.steps * t.batch * t.length * cost / 1e11
        assert 0.85 * seconds(limit) < planned <= 0.98 * seconds(limit)
        assert (t.max_time, t.epochs, t.patience, t.schedule) == (limit, None, None, "cosine")
        assert 1 <= t.steps / int(t.eval_every or 0) <= PROSE.evaluations
        assert t.lr * config.model.hidden <= 0.02 * 512  # at 0.02 * 768 a run diverged
    assert costs == sorted(costs)
    assert costs[0] < costs[1] < costs[2] < costs[3]
    assert dropouts[0] < dropouts[1] < dropouts[2]


def test_a_small_text_is_held_back(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    small = Corpus.from_text("the sea was calm and the boat went out\n" * 100)
    small_text, large_text = choice(small, "60s").config, choice(corpus, "60s").config
    assert small_text.model.dropout > large_text.model.dropout
    assert (small_text.model.tie, large_text.model.tie) == (True, False)
    assert large_text.model.weight_drop == 0.0
    hanja = "".join(chr(0x4E00 + k * 7919 % 800) for k in range(4000))
    script = choice(Corpus.from_text(hanja), "60s").config
    assert script.model.tie is False
    assert 0.0 < script.model.weight_drop <= rules.MOST_WEIGHT_DROP


def test_a_segment_holds_a_record(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    """Few steps have short segments, but lines that are all about as long fit into one, and some
    units start as ones that remember it."""
    names = "".join(f"name{k}\n" for k in range(9000))
    few = [choice(text, "20s").config.train for text in (corpus, Corpus.from_text(names))]
    assert [t.length for t in few] == [PROSE.read_short[1]] * 2
    records, chosen = choice(Corpus.from_text(LOG), "2s")
    assert sum("records" in reason for reason in chosen.reasons) == 1
    assert records.train.length == records.model.chrono == RECORDS.read_short[1]
    some, long = (choice(Corpus.from_text(LOG), limit).config for limit in ("10m", "24h"))
    assert some.train.length == some.model.chrono == long.model.chrono == RECORDS.read[1]
    assert long.train.batch > some.train.batch == RECORDS.read[0]
    assert choice(corpus, "1h").config.model.chrono is None
    assert records.train.lr < few[0].lr
    assert records.train.batch < few[0].batch
    assert records.model.dropout == 0.0
    assert choice(corpus, "1h").config.train.length == PROSE.read[1]


def test_words_are_learnt_by_sgd(choice: Callable[..., Choice]) -> None:
    words = np.random.default_rng(1).zipf(1.3, 40_000) % 10_000
    corpus = Corpus.from_text(" ".join(map(str, words)), unit="word")
    train = choice(corpus, "60s").config.train
    assert (train.optimizer, train.clip_norm, train.weight_decay) == ("sgd", 0.25, 0.0)
    assert train.lr >= 1.0
    for key, value in {"train.optimizer": "adagrad", "train.lr": 0.5}.items():
        train = choice(corpus, "60s", **{key: value}).config.train
        assert train.optimizer == ("adagrad" if key == "train.optimizer" else "adamw")
        assert train.lr <= 0.5


def test_records_are_evaluated_more_often(choice: Callable[..., Choice]) -> None:
    line = "03:{0:02}:{1:02} host{2} kernel: [{1:05}] usb 1-1: new high-speed device\n"
    numbers = np.random.default_rng(2).integers(0, 60, (20_000, 3))
    text = "".join(line.format(*row) for row in numbers)
    evaluations = []
    for shape in text, text.replace("\n", " "):
        chosen = choice(Corpus.from_text(shape), "20s")
        train = chosen.config.train
        evaluations.append(int(train.steps or 0) / int(train.eval_every or 1))
    assert evaluations[0] >= 2 * evaluations[1]


def test_settings_are_not_chosen(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    config = choice(corpus, "60s", **{"model.hidden": 77, "train.lr": 0.005}).config
    assert (config.model.hidden, config.train.lr) == (77, 0.005)
    assert choice(corpus, "60s", **{"train.steps": 9}).config.train.steps == 9
    small = Corpus.from_text("the sea was calm and the boat went out\n" * 100)
    assert choice(small, "10m", **{"model.embedding": 0}).config.model.tie is False


def test_a_machine_that_is_slower_than_expected(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, choice: Callable[..., Choice]
) -> None:
    """A second trial, of a smaller network; the guess does not matter then."""
    monkeypatch.setattr(auto, "cores", lambda: 1)
    usual, slow = choice(corpus, "60s", rate=5e10), choice(corpus, "60s", rate=5e9)
    assert operations(slow.config, 60) < operations(usual.config, 60)
    assert sum("a trial of" in reason for reason in usual.auto.reasons) == 1
    assert sum("a trial of" in reason for reason in slow.auto.reasons) == 2
    monkeypatch.setattr(auto, "FIRST_RATE", 5e9)
    assert choice(corpus, "60s", rate=5e9).config == slow.config


def test_it_needs_a_time_and_one_rank(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, choice: Callable[..., Choice]
) -> None:
    with pytest.raises(UsageError, match="auto chooses for a time"):
        Auto(corpus, [], 0.0)
    monkeypatch.setattr(auto, "ranks", lambda: type("Two", (), {"size": 2}))
    with pytest.raises(UsageError, match="not for several ranks"):
        choice(corpus, "60s")
    with pytest.raises(UsageError, match="not for several ranks"):
        charlstm.train("no such file", config="auto")  # before a corpus is read


@pytest.mark.parametrize("evaluation", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("pace", [0.3, 0.6, 1.0, 1.02, 3.0])
@pytest.mark.parametrize("when", [0.05, 0.3, 0.6, 0.8])
def test_the_time_is_kept_where_the_machine_changes(
    corpus: Corpus,
    choice: Callable[..., Choice],
    monkeypatch: pytest.MonkeyPatch,
    pace: float,
    when: float,
    evaluation: float,
) -> None:
    """Some steps at the beginning are slow, and at some time it becomes slower or faster for good:
    the run ends in time, with every evaluation, and the rate does not jump, but where much time is
    won. Evaluations by themselves change no plan."""
    monkeypatch.setattr(rules, "EVALUATION", evaluation)
    _, chosen = choice(corpus, "100s")
    training = chosen.start(None, None, lambda text: None)
    t = training.config.train
    first, every = int(t.steps or 0), int(t.eval_every or 0)
    evaluating = math.ceil(first / every) * chosen.rules.evaluation
    a_unit = 97.0 / (first * t.batch * t.length + evaluating)
    step, spent, changes, rate = 0, 3.0, 0, 0.0
    while step < int(training.config.train.steps or 0):
        step += 1
        slow = 2.0 if step < first // 50 else 1.0
        now = a_unit * slow * (pace if spent > 100.0 * when else 1.0)
        spent += now * t.batch * t.length
        before = training.plan.schedule.learning_rate(step, 0, 0)
        settings = chosen.replan(step, spent)
        changes += bool(settings)
        training._change(settings)
        rate = training.plan.schedule.learning_rate(step, 0, 0)
        assert -0.02 <= (rate - before) / PROSE.rate <= (0.02 if pace >= 1.0 else 0.5)
        if step % every == 0 or step == training.config.train.steps:
            spent += now * chosen.rules.evaluation
    assert 90.0 <= spent <= 102.0
    assert rate < 0.02 * PROSE.rate
    assert changes == 1 or pace not in (1.0, 1.02)


def test_the_time_of_a_single_evaluation(
    corpus: Corpus, choice: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the last, however many steps there are in the end."""
    monkeypatch.setattr(rules, "EVALUATION", 4.0)
    _, chosen = choice(corpus, "100s")
    training = chosen.start(None, None, lambda text: None)
    t = training.config.train
    assert t.eval_every == t.steps
    a_unit = 70.0 / (int(t.steps or 0) * t.batch * t.length)
    step, spent = 0, 3.0
    while step < int(training.config.train.steps or 0):
        step, spent = step + 1, spent + a_unit * t.batch * t.length
        training._change(chosen.replan(step, spent))
    assert training.config.train.eval_every == step
    assert 92.0 <= spent + a_unit * chosen.rules.evaluation <= 100.0


@pytest.mark.parametrize("steps", range(1, 30))
def test_a_run_of_few_steps(corpus: Corpus, steps: int, choice: Callable[..., Choice]) -> None:
    """Checked at every step, in whatever time: the plan never ends before the step that is done."""
    chosen = choice(corpus, "100s").auto
    chosen.start(None, None, lambda text: None)
    for a_step in (0.1, 1e3):
        chosen.steps, chosen.hold, chosen.next_check = steps, steps // 5, max(1, steps // 10)
        chosen.done, chosen.spent, step = 0, 3.0, 0
        while step < min(99, chosen.steps):
            step += 1
            chosen.replan(step, 3.0 + step * a_step)
            assert chosen.steps >= step
            assert chosen.hold < chosen.steps


def test_what_is_set_is_kept(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    """A hold that is set, and a number of steps by epochs, which all that depends on it follows."""
    held = choice(corpus, "100s", **{"train.hold": 0}).auto
    training = held.start(None, None, lambda text: None)
    assert training.config.train.hold == 0
    assert training.replan is None
    t = choice(corpus, "100s", **{"train.epochs": 1}).config.train
    assert t.steps == math.ceil(len(corpus.train) / (t.batch * t.length))
    assert t.warm_up <= t.steps // 10
    assert choice(corpus, "100s", **{"train.epochs": None}).auto.rules.planned
    tied = choice(corpus, "60s", **{"model.embedding": 48, "model.tie": True, "model.hidden": 48})
    assert tied.config.model.embedding_start == Config().model.embedding_start


def test_no_time_is_left(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    late = choice(corpus, "5s").auto
    late.end = 0.0
    with pytest.raises(UsageError, match="took all of --max-time 5s"):
        late.start(None, None, lambda text: None)


def test_a_step_that_is_longer_than_a_trial(corpus: Corpus) -> None:
    """Its speed is measured by that step."""
    settings = [Setting("train.max_time", "10s", "test"), Setting("train.workers", 1, "test")]
    chosen = Auto(corpus, settings, time.monotonic())
    chosen.trial = 0.0
    assert 0 < chosen._speed(Config().updated(settings)) < 1e7


def test_a_run_is_planned_anew(corpus: Corpus, choice: Callable[..., Choice]) -> None:
    config = choice(corpus, "100s").config
    t = config.train
    assert 0.15 * int(t.steps or 0) < t.hold < 0.25 * int(t.steps or 0)
    training = Training.start(corpus, config)
    asked = []

    def replan(step: int, spent: float) -> tuple[list[Setting], str | None]:
        asked.append(step)
        settings = [Setting("train.steps", 5, "test"), Setting("train.hold", 3, "test")]
        return (settings, None) if step % 2 else ([], None)

    training.replan = replan
    assert [record.step for record in training] == asked == [1, 2, 3, 4, 5]
    stored = training.checkpoint().config.train
    assert (stored.steps, stored.hold) == (5, 3)


@pytest.mark.parametrize("given", [None, 0.1])
def test_records_that_are_learnt_by_heart(
    choice: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch, given: float | None
) -> None:
    """Where the held-out text has been predicted no better for two epochs, recurrent weights are
    dropped; a share that is set stays."""
    settings = {} if given is None else {"model.weight_drop": given}
    chosen = choice(Corpus.from_text(LOG[: len(LOG) // 2]), "20s", 1e9, **settings).auto
    training = chosen.start(None, None, lambda text: None)
    t = training.config.train
    steps, every = int(t.steps or 0), int(t.eval_every or 0)
    best = steps // 8 // every * every
    epoch = len(chosen.corpus.train) / (t.batch * t.length)
    turn = best + math.ceil(auto.STILL * epoch)
    assert best and auto.BY_HEART * steps < turn - best and turn < auto.LATEST * steps
    monkeypatch.setattr(Auto, "replan", lambda *_: [])
    monkeypatch.setattr(Learner, "measure", lambda self: 1 + abs(self.progress.step - best) / steps)
    told = {}
    for record in training:
        share = training.learner.shards.job.drops.weight_drop
        assert share == (given or (0.0 if record.step < turn else rules.MOST_WEIGHT_DROP))
        if record.notice is not None:
            told[record.step] = record.notice
    assert training.checkpoint().config.model.weight_drop == (given or rules.MOST_WEIGHT_DROP)
    assert list(told) == ([] if given else [turn])
    assert given or f"not better since step {best}; 50%" in told[turn]


def test_nothing_more_is_dropped_near_the_end(choice: Callable[..., Choice]) -> None:
    """What is learnt with the weights that are dropped could not be learnt anew at a low rate."""
    chosen = choice(Corpus.from_text(LOG), "60s").auto
    training = chosen.start(None, None, lambda text: None)
    training.progress.best = Score(1, 1.0)
    for step, drops in ((chosen.steps // 2, True), (chosen.steps * 3 // 4, False)):
        training.progress.step = step
        assert bool(chosen.drop_more(training)[0]) is drops


def test_what_is_dropped_already_is_not_told(choice: Callable[..., Choice]) -> None:
    """Where half of the recurrent weights are dropped from the beginning."""
    chosen = choice(Corpus.from_text(LOG), "24h").auto
    training = chosen.start(None, None, lambda text: None)
    assert chosen.rules.may_drop_weights
    assert training.config.model.weight_drop == rules.MOST_WEIGHT_DROP
    training.progress.best, training.progress.step = Score(1, 1.0), chosen.steps // 2
    assert chosen.drop_more(training) == ([], None)


def test_prose_is_not_taken_to_be_learnt_by_heart(
    corpus: Corpus, choice: Callable[..., Choice]
) -> None:
    """Its rate falls all the way; it may be long before the last evaluations are better."""
    chosen = choice(corpus, "20s").auto
    chosen.start(None, None, lambda text: None)
    assert not chosen.rules.may_drop_weights


def test_only_train_chooses(tmp_path: Path) -> None:
    for command in (["sample"], ["evaluate", STORY]):
        fails(run(*command, "-c", "auto", cwd=tmp_path), 2, "only train")
    fails(run("train", STORY, "-c", "atuo", cwd=tmp_path), 2, "did you mean auto?")
    with pytest.raises(UsageError, match="null"):
        charlstm.train(STORY, config="auto", settings={"train.max_time": None})


@pytest.mark.whole
def test_a_run_as_typed(tmp_path: Path) -> None:
    """What it chose is said, and stored as a plain configuration: a run that is killed and resumed
    ends like one with these settings and without auto, bit for bit."""
    command = ["train", str(STORY), "-c", "auto", "--max-time", "4s", "--save-every", "20"]
    started = subprocess.Popen(
        [sys.executable, "-m", "charlstm", *command, "--debug"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    wait_for(tmp_path / "charlstm.npz")
    started.kill()
    _, stderr = started.communicate()
    lines = stderr.decode().splitlines()
    assert lines[0].startswith("charlstm: auto: LSTM, ")
    assert any("a trial of" in line for line in lines)
    process = run("train", STORY, "-c", "auto", "--resume", *ENDLESS, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    resumed = read_checkpoint(tmp_path / "charlstm.npz")
    assert resumed.progress.step == resumed.config.train.steps
    at_once = charlstm.train(STORY, settings=settings_of(resumed.config))
    for _ in at_once:
        pass
    assert np.array_equal(at_once.checkpoint().best, resumed.best)


def settings_of(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, keys in config.to_dict().items()
        for name, value in keys.items()
    }


@pytest.mark.whole
def test_a_busy_machine(tmp_path: Path) -> None:
    """The time is kept where another program takes a core from the beginning to the end."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        began = time.monotonic()
        options = ["-c", "auto", "--max-time", "20s", "--log", "run.jsonl"]
        process = run("train", STORY, *options, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert 18.0 <= time.monotonic() - began <= 22.0
    finally:
        busy.kill()
        busy.wait()
    progress = read_checkpoint(tmp_path / "charlstm.npz").progress
    last = json.loads((tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["step"] == progress.step
    assert last["valid"] is not None


@pytest.mark.whole
def test_hello(tmp_path: Path) -> None:
    process = run("train", "-", "-c", "auto", "--max-time", "3s", stdin="hello", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    process = run("sample", "--seed", "hell", "-t", "0", "-n", "1", cwd=tmp_path)
    assert process.stdout == b"hello\n"
