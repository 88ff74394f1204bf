"""The library from Python: train, load, sample, evaluate, go on; and what importing it costs."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, STORY, records

import charlstm
from charlstm.config.bundle import bundled

TEXT = "Once upon a time there was a ferry.\n" * 60

SMALL: Mapping[str, Any] = {
    "model.hidden": 8,
    "train.batch": 2,
    "train.length": 10,
    "train.steps": 12,
    "train.eval_every": 5,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text file in a folder of its own."""
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and, beside it, its corpus."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    output = folder / "model.npz"
    for _ in charlstm.train(folder / "corpus.txt", output, settings=SMALL):
        pass
    return output


def run(training: charlstm.Training) -> list[charlstm.Record]:
    return list(records(training))


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bundled()))
def test_every_configuration_trains(name: str, tmp_path: Path) -> None:
    """A few steps of each, from the loss of a model that knows nothing downwards; and the file
    that is left goes on, and writes."""
    text, model = STORY, tmp_path / "m.npz"
    settings: dict[str, Any] = {"train.steps": 3, "train.epochs": None}
    settings |= {"train.sample_every": None, "train.sample_at": []}
    records = run(charlstm.train(text, model, config=name, settings=settings))
    nothing = math.log(len(charlstm.load(model).vocabulary))
    assert records[0].train == pytest.approx(nothing, rel=0.1)
    assert all(math.isfinite(record.train) for record in records)
    more = run(charlstm.train(text, model, resume=True, settings={"train.steps": 4}))
    assert [record.step for record in more] == [4]
    written = "".join(charlstm.load(model).sample("The lamp ", length=5, rng_seed=1))
    assert len(written) >= 5


def test_records(corpus: Path, tmp_path: Path) -> None:
    """A record a step, counting up, with losses, and looks and saves where they happened."""
    output = tmp_path / "model.npz"
    records = run(charlstm.train(corpus, output, settings={**SMALL, "train.save_every": 4}))
    assert [r.step for r in records] == list(range(1, 13))
    assert [r.chars for r in records] == [20 * k for k in range(1, 13)]
    for r in records:
        assert r.epoch == pytest.approx(r.chars / int(0.9 * len(TEXT)))
        assert math.isfinite(r.train)
        assert 0 < r.gradient_norm < math.inf
        assert r.lr == 0.1
        assert (r.valid is not None) == (r.step in (5, 10, 12))  # looks, and the end
        assert r.saved == (r.step % 4 == 0 or r.best)
        assert r.notice is None
    assert records[0].train == pytest.approx(math.log(len(set(TEXT))), rel=0.2)
    assert records[-1].train < records[0].train
    assert records[4].best
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt", "model.npz"]
    assert charlstm.load(output).checkpoint.progress.step == 12


def test_without_output(corpus: Path, tmp_path: Path) -> None:
    """Nothing is written without an output; the checkpoint is there to be asked for."""
    training = charlstm.train(str(corpus), settings=SMALL)
    run(training)
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.txt"]
    model = charlstm.LanguageModel(training.checkpoint())
    assert len("".join(model.sample("Once", length=20))) == 20


def test_same_seed_same_file(corpus: Path, tmp_path: Path) -> None:
    """A run is repeated byte for byte, and another seed is another run."""
    files = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(charlstm.train(corpus, tmp_path / name, settings={**SMALL, "train.rng_seed": seed}))
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_settings_and_configurations(corpus: Path, tmp_path: Path) -> None:
    """Settings go over files, later files over earlier ones, these over the defaults."""
    (tmp_path / "1.yaml").write_text("model: {hidden: 5, layers: 2, cell: gru}\n")
    (tmp_path / "2.yaml").write_text("model: {hidden: 6, layers: 1}\n")
    config = charlstm.train(
        corpus,
        config=["default", str(tmp_path / "1.yaml"), str(tmp_path / "2.yaml")],
        settings={"model.hidden": 7},
    ).config
    assert (config.model.hidden, config.model.layers, config.model.cell) == (7, 1, "gru")
    one = charlstm.train(corpus, config=str(tmp_path / "1.yaml")).config
    assert (one.model.hidden, one.train.lr) == (5, 0.1)
    listed = charlstm.train(corpus, settings=[charlstm.Setting("model.hidden", 3, "here")])
    assert listed.config.model.hidden == 3


@pytest.mark.parametrize(
    ("settings", "rest"),
    [
        ({"model.hiden": 5}, r"settings: unknown key 'model\.hiden'; did you mean model\.hidden\?"),
        ({"hidden": 5}, r"did you mean model\.hidden\?"),
        ({"model.hidden": "5"}, r"settings: model\.hidden: expected a whole number"),
        ({"train.lr": math.nan}, r"train\.lr"),
    ],
)
def test_wrong_settings(corpus: Path, settings: dict[str, Any], rest: str) -> None:
    """A wrong setting is a `ConfigError` that names the key."""
    with pytest.raises(charlstm.ConfigError, match=rest):
        charlstm.train(corpus, settings=settings)


def test_several_files_and_held_out(corpus: Path, tmp_path: Path) -> None:
    """Files are one text in order; the held-out text may be a file of its own."""
    other = tmp_path / "other.txt"
    other.write_text("zebra " * 40)
    both = charlstm.train([corpus, other], settings={**SMALL, "text.valid": 0.0})
    assert both.corpus.vocabulary.decode(both.corpus.train) == TEXT + "zebra " * 40 + "\n"
    training = charlstm.train(corpus, valid=other, settings=SMALL)
    assert len(training.corpus.train) == len(TEXT)
    assert len(training.corpus.valid) == 240


def test_notices(tmp_path: Path) -> None:
    """What was changed without being asked for is told."""
    path = tmp_path / "small.txt"
    path.write_bytes(b"\xef\xbb\xbfhello hello")
    notices: list[str] = []
    training = charlstm.train(path, notice=notices.append)
    assert "byte order mark" in notices[0]
    assert len(training.notices) == 2
    assert "too few" in training.notices[0]
    assert "instead of" in training.notices[1]


@pytest.mark.parametrize("sources", [[], ()])
def test_no_corpus(sources: Any) -> None:
    """No corpus at all is said to be none."""
    with pytest.raises(charlstm.UsageError, match="no corpus"):
        charlstm.train(sources)


def test_bad_corpora(tmp_path: Path) -> None:
    """Missing, empty and undecodable texts, each with its own error, before anything is written."""
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(b"abc\xff")
    output = tmp_path / "model.npz"
    with pytest.raises(charlstm.UsageError, match="no such file"):
        charlstm.train(tmp_path / "gone", output)
    with pytest.raises(charlstm.CorpusError, match="empty"):
        charlstm.train(empty, output)
    with pytest.raises(charlstm.CorpusError, match="byte 3"):
        charlstm.train(binary, output)
    assert charlstm.train(binary, settings={"text.encoding": "latin-1"}).corpus.train.size == 4
    assert not output.exists()


def test_output_exists(corpus: Path, tmp_path: Path) -> None:
    """A file is never replaced unasked, and the message names the ways on."""
    output = tmp_path / "model.npz"
    output.write_text("precious")
    with pytest.raises(charlstm.UsageError, match=r"exists.*--resume.*--force.*-o"):
        charlstm.train(corpus, output, settings=SMALL)
    assert output.read_text() == "precious"
    with pytest.raises(charlstm.CheckpointError, match="not a checkpoint"):
        charlstm.train(corpus, output, resume=True)
    run(charlstm.train(corpus, output, settings=SMALL, force=True))
    charlstm.load(output)


def test_output_that_cannot_be_written(corpus: Path, tmp_path: Path) -> None:
    """It is known before the first step."""
    with pytest.raises(charlstm.OutputError, match="cannot be written"):
        charlstm.train(corpus, tmp_path / "no" / "model.npz")
    with pytest.raises(charlstm.UsageError):
        charlstm.train(corpus, tmp_path, force=True)


# --- going on ----------------------------------------------------------------------------------


def test_resume_is_as_if_never_stopped(corpus: Path, tmp_path: Path) -> None:
    """Six steps and six more are the twelve, byte for byte."""
    straight, parts = tmp_path / "straight.npz", tmp_path / "parts.npz"
    run(charlstm.train(corpus, straight, settings=SMALL))
    first = charlstm.train(corpus, parts, settings=SMALL)
    for _ in itertools.islice(first, 6):
        pass
    first.save()
    second = charlstm.train(corpus, parts, resume=True)
    assert [r.step for r in second] == list(range(7, 13))
    assert parts.read_bytes() == straight.read_bytes()


def test_resume_for_longer(corpus: Path, tmp_path: Path) -> None:
    """A finished run goes on when it is given more steps; without, there is nothing to do."""
    output = tmp_path / "model.npz"
    run(charlstm.train(corpus, output, settings=SMALL))
    assert run(charlstm.train(corpus, output, resume=True)) == []
    more = charlstm.train(corpus, output, resume=True, settings={"train.steps": 15})
    assert [r.step for r in more] == [13, 14, 15]


def test_resume_of_nothing(corpus: Path, tmp_path: Path) -> None:
    """Without a checkpoint there is nothing to resume."""
    with pytest.raises(charlstm.UsageError, match="nothing to resume"):
        charlstm.train(corpus, resume=True)
    with pytest.raises(charlstm.UsageError, match="no such checkpoint"):
        charlstm.train(corpus, tmp_path / "gone.npz", resume=True)


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "!", lambda t: "o" + t[1:]])
def test_resume_of_a_changed_corpus(trained: Path, tmp_path: Path, change: Any) -> None:
    """One character more, less or changed is another corpus, and is refused."""
    path = tmp_path / "changed.txt"
    path.write_text(change(TEXT))
    with pytest.raises(charlstm.UsageError, match="not the one"):
        charlstm.train(path, trained, resume=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hidden", 9),
        ("model.layers", 2),
        ("model.cell", "gru"),
        ("train.batch", 3),
        ("train.length", 11),
        ("train.optimizer", "sgd"),
        ("train.rms_decay", 0.9),
        ("train.beta1", 0.5),
        ("train.beta2", 0.99),
        ("train.rng_seed", 5),
        ("text.valid", 0.2),
        ("text.encoding", "latin-1"),
        ("text.unit", "word"),
        ("text.normalize", "nfc"),
        ("text.min_count", 2),
        ("text.max_vocabulary", 100),
    ],
)
def test_resume_of_another_model(trained: Path, key: str, value: Any) -> None:
    """What the run is built on cannot change on the way, and the message says what it is."""
    before = trained.read_bytes()
    corpus = trained.with_name("corpus.txt")
    with pytest.raises(
        charlstm.UsageError, match=f"{key} is .* cannot change".replace(".", r"\.", 1)
    ):
        charlstm.train(corpus, trained, resume=True, settings={key: value})
    assert trained.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", 0.01),
        ("train.schedule", "exponential"),
        ("train.schedule", "cosine"),
        ("train.schedule", "plateau"),
        ("train.warm_up", 20),
        ("train.weight_decay", 0.1),
        ("train.steps", 14),
        ("train.reset", 0.5),
        ("train.clip_norm", None),
        ("train.epochs", "auto"),
        ("train.epochs", None),
        ("train.average", 0.0),
        ("train.average", 0.5),
        ("sample.length", 3),
        ("model.hidden", 8),
    ],
)
def test_resume_with_other_settings(trained: Path, tmp_path: Path, key: str, value: Any) -> None:
    """Any other setting takes effect, or is refused at once, but the run never breaks over it."""
    output = tmp_path / "model.npz"
    output.write_bytes(trained.read_bytes())
    settings = {"train.steps": 14, key: value}
    try:
        training = charlstm.train(
            trained.with_name("corpus.txt"), output, resume=True, settings=settings
        )
    except charlstm.UsageError as e:
        assert key in str(e)
        return
    assert [r.step for r in training] == [13, 14]
    charlstm.load(output)


def test_average_cannot_come_from_nowhere(corpus: Path, tmp_path: Path) -> None:
    """A run without an average, resumed with one, is refused or works; it does not break late."""
    output = tmp_path / "model.npz"
    run(charlstm.train(corpus, output, settings={**SMALL, "train.average": 0.0}))
    more = {"train.average": 0.5, "train.steps": 14}
    try:
        training = charlstm.train(corpus, output, resume=True, settings=more)
    except charlstm.UsageError as e:
        assert "train.average" in str(e)
        return
    assert len(run(training)) == 2
    charlstm.load(output)


# --- using a model -----------------------------------------------------------------------------


def test_load(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By path, by string, or the default name in the working directory."""
    model = charlstm.load(trained)
    assert model.vocabulary.units == sorted(set(TEXT))
    assert model.config.model.hidden == 8
    assert charlstm.load(str(trained)).checkpoint.digest == model.checkpoint.digest
    monkeypatch.chdir(tmp_path)
    with pytest.raises(charlstm.UsageError, match=r"charlstm\.npz: no such checkpoint"):
        charlstm.load()
    Path("charlstm.npz").write_bytes(trained.read_bytes())
    assert charlstm.load().checkpoint.digest == model.checkpoint.digest


def test_sample(trained: Path) -> None:
    """Characters one by one, as many as asked for, the same for the same number."""
    model = charlstm.load(trained)
    first = "".join(model.sample("Once ", length=40, rng_seed=3))
    assert len(first) == 40
    assert set(first) <= set(TEXT)
    assert "".join(model.sample("Once ", length=40, rng_seed=3)) == first
    assert "".join(model.sample("Once ", length=40, rng_seed=4)) != first
    assert len("".join(model.sample())) == model.config.sample.length == 200
    assert all(len(c) == 1 for c in model.sample(length=10, stop=["er", "xyz"]))


def test_sample_without_a_seed_differs(trained: Path) -> None:
    """Without a number, every text is another one."""
    model = charlstm.load(trained)
    assert len({"".join(model.sample(length=30, temperature=1.5)) for _ in range(4)}) == 4


def test_options_of_the_configuration(corpus: Path) -> None:
    """What is left out of a call is as the model's configuration says."""
    training = charlstm.train(
        corpus, settings={**SMALL, "sample.length": 9, "sample.temperature": 0.0}
    )
    run(training)
    model = charlstm.LanguageModel(training.checkpoint())
    text = "".join(model.sample("a"))
    assert len(text) == 9
    assert "".join(model.sample("a", temperature=0.0)) == text
    assert "".join(model.sample("a", top_k=1, temperature=5.0)) == text


def test_pieces(trained: Path) -> None:
    """Several samples side by side, with reasons and surprise."""
    model = charlstm.load(trained)
    sampler = model.sampler(length=12, rng_seed=1, nats=True)
    seeds = [model.seed("Once")] * 3
    pieces = list(sampler.pieces(seeds))
    for k, completion in enumerate(sampler(seeds)):
        mine = [p for p in pieces if p.sample == k]
        assert "".join(p.text for p in mine) == completion.text
        assert len(completion.text) == 12
        assert mine[-1].stop == completion.stop == "length"
        whole, seed = model.evaluate("Once" + completion.text), model.evaluate("Once")
        assert completion.nats == pytest.approx(whole.nats - seed.nats, rel=1e-4)


def test_seed_outside_the_vocabulary(trained: Path) -> None:
    """A seed that the model cannot read is an error that says why."""
    with pytest.raises(charlstm.VocabularyError, match=r"the seed .*'한' at position 1"):
        list(charlstm.load(trained).sample("a한"))


def test_evaluate(trained: Path) -> None:
    """The score of a text, unknown characters charged."""
    model = charlstm.load(trained)
    result = model.evaluate("Once upon")
    assert isinstance(result, charlstm.Evaluation)
    assert (result.characters, result.unknown) == (8, 0)
    assert result.bits_per_char == pytest.approx(result.nats / 8 / math.log(2))
    assert model.evaluate("Onc한 upon").unknown == 1
    assert model.evaluate(TEXT).nats_per_char < model.evaluate(TEXT[::-1]).nats_per_char
    assert model.evaluate("").characters == 0


# --- importing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", charlstm.__all__)
def test_public_names(name: str) -> None:
    """Every public name is there, and is what it says."""
    assert getattr(charlstm, name).__name__ == name


def test_unknown_name() -> None:
    """Any other name is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        charlstm.trian  # noqa: B018


def test_names_are_sorted_and_complete() -> None:
    """What can be imported lazily, and what is light, is what is public."""
    light = {"Record", "Rollback", *(name for name in vars(charlstm.errors) if "Error" in name)}
    assert {*charlstm._HOMES, *light} == set(charlstm.__all__)
    assert charlstm.__all__ == sorted(set(charlstm.__all__))


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import charlstm", ["numpy", "yaml", "click", "tqdm", "charlstm.api"]),
        ("from charlstm import UsageError", ["numpy", "yaml", "click", "tqdm"]),
        ("from charlstm import load, train, Training, Config", ["click", "tqdm", "charlstm.cli"]),
    ],
)
def test_imports_cost_only_what_is_used(code: str, modules: list[str]) -> None:
    """Importing the package imports nothing; the library never imports the command line."""
    check = f"import sys; {code}; print(*(m for m in {modules!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
