"""`charlstm import`: models of PyTorch's modules, whatever they are called, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from exchanged import (
    TEXT,
    Array,
    assert_equal,
    every_cell,
    language,
    log_probabilities,
    network,
    ours,
    written,
)
from support import block, fails, run, sampled

import charlstm
from charlstm.nn.model import Model

CHARACTERS = "abcdef"


def imported(
    tmp_path: Path, arrays: dict[str, Array], vocabulary: str = CHARACTERS, name: str = "units"
) -> charlstm.LanguageModel:
    """The model of these arrays and a vocabulary file of this name."""
    (tmp_path / name).write_text(vocabulary, encoding="utf-8")
    path = written(tmp_path / "m.st", arrays)
    return charlstm.import_model(path, vocabulary=tmp_path / name)


def refused(tmp_path: Path, arrays: dict[str, Array], *parts: str) -> None:
    """Assert that the command refuses these arrays, and why."""
    (tmp_path / "units").write_text(CHARACTERS)
    path = written(tmp_path / "m.st", arrays)
    process = run(
        *("import", path, "--vocabulary", tmp_path / "units", "-o", tmp_path / "refused.npz")
    )
    fails(process, 3, f"{path}: ", *parts)
    assert not (tmp_path / "refused.npz").exists()


def by_hand(arrays: dict[str, Array], names: str, cell: str, ids: Array) -> Array:
    """Log-probabilities (N, V) that PyTorch's equations give, written once more."""
    embedding, rnn, linear = names.split()
    H = arrays[f"{rnn}.weight_hh_l0"].shape[1]
    order = {"lstm": [0, 1, 3, 2], "gru": [0, 1, 2], "rnn": [0]}[cell]  # reference: i f o g

    def gates(name: str) -> Array:
        rows = np.asarray(arrays[f"{rnn}.{name}_l0"], np.float64)
        stacked: Array = rows.reshape(len(order), H, -1)[order]
        return stacked

    weights = {
        "layer0.Wx": gates("weight_ih").swapaxes(1, 2),
        "layer0.Wh": gates("weight_hh").swapaxes(1, 2),
        "layer0.b": (gates("bias_ih") + gates("bias_hh")).swapaxes(1, 2),
        "by": arrays[f"{linear}.bias"],
        "Wy": arrays[f"{linear}.weight"],
    }
    if f"{embedding}.weight" in arrays:
        weights["E"] = arrays[f"{embedding}.weight"]
    states = [np.zeros((1, H))] * (2 if cell == "lstm" else 1)
    logits, _ = reference.forward(cell, 1, weights, ids[:, None], states)
    return log_probabilities(logits[:, 0])


# --- what is recognised --------------------------------------------------------------------------

NAMES = [
    "embedding rnn linear",
    "encoder lstm decoder",
    "model.emb model.gru model.fc",
    "a.b.c d e",
    "x.1 x.2 x.3",
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("D", [0, 4, 3])
@every_cell
def test_whatever_modules_are_called(cell: str, D: int, names: str, tmp_path: Path) -> None:
    """Also where the embedding is as wide as the states: the output has the bias."""
    arrays = network(cell, D=D, names=names)
    model = imported(tmp_path, arrays)
    ids = np.array([0, 1, 2, 3, 4, 5, 5, 0, 2], np.int64)
    np.testing.assert_allclose(
        ours(model, ids), by_hand(arrays, names, cell, ids), rtol=0, atol=1e-5
    )
    assert model.config.model.cell == cell
    assert model.config.model.embedding == D
    assert model.config.model.hidden == 3
    assert not model.config.model.tie


def test_modules_without_a_name(tmp_path: Path) -> None:
    """A recurrent module that was saved alone has none; nor need the output."""
    arrays = network(D=0)
    bare = {name.removeprefix("rnn.").removeprefix("linear."): w for name, w in arrays.items()}
    assert {"weight", "bias", "weight_ih_l0"} <= bare.keys()
    one, other = imported(tmp_path, arrays), imported(tmp_path, bare)
    assert_equal(one, other)


@pytest.mark.parametrize("dropped", ["ih", "hh", "both", "linear"])
def test_without_biases(dropped: str, tmp_path: Path) -> None:
    """What a module does not have is zero."""
    arrays = network()
    names = {
        "ih": ["rnn.bias_ih_l0"],
        "hh": ["rnn.bias_hh_l0"],
        "both": ["rnn.bias_ih_l0", "rnn.bias_hh_l0"],
        "linear": ["linear.bias"],
    }[dropped]
    model = imported(tmp_path, {name: w for name, w in arrays.items() if name not in names})
    zeros = {name: np.zeros_like(w) if name in names else w for name, w in arrays.items()}
    assert_equal(model, imported(tmp_path, zeros))


@pytest.mark.parametrize(
    "modules", [["rnn.0.", "rnn.1."], ["lstm1.", "lstm2."], ["l9.r.", "l10.r."]]
)
def test_layers_in_modules_of_their_own(modules: list[str], tmp_path: Path) -> None:
    """Numbered from whatever number, of different widths; in a file in another order."""
    lower, upper = network(D=4, H=5), network(D=5, H=3)
    of_layers = {
        f"{module}{name.removeprefix('rnn.')}": w
        for module, layer in [(modules[1], upper), (modules[0], lower)]
        for name, w in layer.items()
        if name.startswith("rnn.")
    }
    ends = {"embedding.weight": lower["embedding.weight"]}
    ends |= {name: upper[name] for name in ("linear.weight", "linear.bias")}
    model = imported(tmp_path, {**of_layers, **ends})
    assert model.config.model.hidden == (5, 3)
    weights = model.checkpoint.model().weights
    theirs = lower["rnn.weight_hh_l0"].reshape(4, 5, 5)
    np.testing.assert_array_equal(weights["layer0.Wh"][3], theirs[2].T)  # g


def stack(layers: int) -> dict[str, Array]:
    """Layers of one module, equally wide."""
    arrays = network(D=3, H=3)
    for k in range(1, layers):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            arrays[f"rnn.{kind}_l{k}"] = arrays[f"rnn.{kind}_l0"] * np.float32(k + 1)
    return arrays


def test_layers_of_one_module(tmp_path: Path) -> None:
    model = imported(tmp_path, stack(12))
    assert (model.config.model.hidden, model.config.model.layers) == (3, 12)
    weights = model.checkpoint.model().weights
    np.testing.assert_array_equal(weights["layer11.Wh"], weights["layer0.Wh"] * np.float32(12))


def tied(H: int = 4, D: int = 4) -> dict[str, Array]:
    """A tied model with its weights under the embedding's name, projected where H is not D."""
    arrays = network(D=D, H=H)
    del arrays["linear.weight"]
    if H != D:
        arrays["down.weight"] = np.random.default_rng(6).normal(0, 1, (D, H)).astype(np.float32)
    return arrays


@pytest.mark.parametrize("H", [4, 7])
def test_tied_weights(H: int, tmp_path: Path) -> None:
    """Written once, under either name, or twice: the same model."""
    arrays = tied(H)
    E = arrays.pop("embedding.weight")
    ways: list[dict[str, Array]] = [
        {"embedding.weight": E},
        {"linear.weight": E},
        {"embedding.weight": E, "linear.weight": E.copy()},
    ]
    models = [imported(tmp_path, {**arrays, **way}) for way in ways]
    for model in models:
        assert model.config.model.tie
        assert ("Wp" in model.checkpoint.model().weights) == (H == 7)
        np.testing.assert_array_equal(model.checkpoint.model().weights["E"], E)
        assert_equal(model, models[0])


def test_a_name_decides_where_shapes_do_not(tmp_path: Path) -> None:
    arrays = network(D=3, names="encoder rnn decoder")
    del arrays["decoder.bias"]
    model = imported(tmp_path, arrays)
    np.testing.assert_array_equal(model.checkpoint.model().weights["E"], arrays["encoder.weight"])
    odd = {name.replace("coder", "de"): w for name, w in arrays.items()}  # ende, dede
    refused(tmp_path, odd, "in more than one way", "'ende.weight' (6, 3)", "'dede.weight' (6, 3)")


# --- what is not the same function ---------------------------------------------------------------


def with_(arrays: dict[str, Array], **more: Any) -> dict[str, Array]:
    """These arrays and zeros of other names and shapes; `_` stands for a dot."""
    zeros = {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in more.items()}
    return {**arrays, **zeros}


def without(arrays: dict[str, Array], name: str) -> dict[str, Array]:
    return {key: w for key, w in arrays.items() if key != name}


def renamed(arrays: dict[str, Array], old: str, new: str) -> dict[str, Array]:
    return {name.replace(old, new): w for name, w in arrays.items()}


REFUSED: dict[str, tuple[dict[str, Array], str]] = {
    "bidirectional": (with_(network(), rnn__weight_ih_l0_reverse=(12, 4)), "bidirectional"),
    "two layers, bidirectional": (
        with_(stack(2), rnn__weight_ih_l0_reverse=(12, 4), rnn__weight_ih_l1=(12, 6)),
        "bidirectional",
    ),
    "proj_size": (
        with_(network(), rnn__weight_hr_l0=(2, 3), rnn__weight_hh_l0=(12, 2)),
        "proj_size",
    ),
    "a norm": (with_(network(), norm__weight=(3,)), "'norm.weight' (3,) is no part of"),
    "a convolution": (with_(network(), conv__weight=(3, 3, 2)), "'conv.weight' (3, 3, 2) is no"),
    "attention": (with_(network(), attention__in_proj_weight=(9, 3)), "is no part of"),
    "no recurrent layer": (
        {name: w for name, w in network().items() if "rnn" not in name},
        "no recurrent layer",
    ),
    "cells": (renamed(network(), "_l0", ""), "no recurrent layer"),
    "no output": (without(without(network(), "linear.weight"), "linear.bias"), "cannot be read"),
    "layers alone": (
        {name: w for name, w in network().items() if "rnn" in name},
        "its other weights, none, cannot be read",
    ),
    "two outputs": (with_(network(), fc__weight=(6, 3)), "cannot be read"),
    "a hidden linear layer": (with_(network(), fc__weight=(3, 3)), "cannot be read"),
    "a bias too many": (with_(network(), other__bias=(6,)), "cannot be read"),
    "a bias of the embedding": (with_(network(), embedding__bias=(6,)), "cannot be read"),
    "a bias of another length": (with_(network(), linear__bias=(5,)), "cannot be read"),
    "a biased projection": (with_(tied(7), down__bias=(4,)), "cannot be read"),
    "a square projection": (with_(tied(4), down__weight=(4, 4)), "cannot be read"),
    "an embedding of another width": (with_(network(), embedding__weight=(6, 5)), "cannot be read"),
    "an output of another width": (with_(network(), linear__weight=(6, 5)), "cannot be read"),
    "other units below": (with_(network(), embedding__weight=(7, 4)), "cannot be read"),
    "all as wide": (
        without(network(V=3, D=3, H=3, names="x rnn y"), "y.bias"),
        "cannot be read in more than",
    ),
    "no weight_hh": (without(network(), "rnn.weight_hh_l0"), "a weight is missing"),
    "no weight_ih": (without(network(), "rnn.weight_ih_l0"), "a weight is missing"),
    "no layer 0": (renamed(network(), "_l0", "_l1"), "a layer is missing: 'rnn.…_l0'"),
    "no layer 1": (without(stack(3), "rnn.weight_ih_l1"), "a weight is missing: 'rnn.…_l1'"),
    "odd gates": (with_(network(), rnn__weight_hh_l0=(15, 3)), "not those of an LSTM, GRU or RNN"),
    "two gates": (with_(network(), rnn__weight_hh_l0=(6, 3)), "not those of an LSTM, GRU or RNN"),
    "other rows": (with_(network(), rnn__weight_ih_l0=(9, 4)), "not those of an LSTM"),
    "a short bias": (with_(network(), rnn__bias_hh_l0=(9,)), "not those of an LSTM"),
    "a flat weight": (with_(network(), rnn__weight_hh_l0=(36,)), "not those of an LSTM"),
    "layers that do not meet": (
        {**network(), **with_({}, rnn__weight_ih_l1=(12, 4), rnn__weight_hh_l1=(12, 3))},
        "not those of an LSTM",
    ),
    "an LSTM on a GRU": (
        {**network("gru"), **with_({}, rnn__weight_ih_l1=(12, 3), rnn__weight_hh_l1=(12, 3))},
        "of different kinds",
    ),
    "two modules": (
        with_(network(), gru__weight_ih_l0=(12, 3), gru__weight_hh_l0=(12, 3)),
        "the order of its recurrent modules is not clear: 'rnn.', 'gru.'",
    ),
    "a gap in the numbers": (
        with_(
            renamed(network(), "rnn", "rnn0"),
            rnn2__weight_ih_l0=(12, 3),
            rnn2__weight_hh_l0=(12, 3),
        ),
        "not clear",
    ),
    "infinite together": (
        {
            **network(),
            "rnn.bias_ih_l0": np.full(12, 3e38, np.float32),
            "rnn.bias_hh_l0": np.full(12, 3e38, np.float32),
        },
        "sums that are not finite",
    ),
    "a bias inside the reset gate": (
        {**network("gru"), "rnn.bias_hh_l0": np.full(9, 0.1, np.float32)},
        "bias inside the reset gate (the last 3 numbers of bias_hh)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str, tmp_path: Path) -> None:
    """In one line, with the reason."""
    arrays, reason = REFUSED[what]
    refused(tmp_path, arrays, reason)


def test_a_bias_of_the_other_gates_of_a_gru_is_summed(tmp_path: Path) -> None:
    arrays = network("gru")
    assert arrays["rnn.bias_hh_l0"][:6].all()
    b = imported(tmp_path, arrays).checkpoint.model().weights["layer0.b"]
    sums = arrays["rnn.bias_ih_l0"] + arrays["rnn.bias_hh_l0"]
    np.testing.assert_array_equal(b.reshape(-1), sums)


# --- vocabularies --------------------------------------------------------------------------------


def units_json(units: list[str]) -> str:
    return json.dumps({unit: k for k, unit in enumerate(units)})


@pytest.mark.parametrize(
    ("name", "vocabulary"),
    [
        ("units", "fbcade"),
        ("units", "fbcade\n"),
        ("units", "fbcade\r\n"),
        ("units.json", units_json(list("fbcade"))),
        ("units.json", json.dumps(list("fbcade"))),
    ],
    ids=["text", "text and line end", "text of Windows", "object", "list"],
)
@pytest.mark.parametrize("D", [0, 4])
def test_characters_in_any_order(D: int, name: str, vocabulary: str, tmp_path: Path) -> None:
    """The units come into charlstm's order, and their weights with them."""
    arrays = network(D=D)
    model = imported(tmp_path, arrays, vocabulary, name)
    assert model.vocabulary.units == list("abcdef")
    old = np.array(["fbcade".index(character) for character in "fadedbeefca"], np.int64)
    new = model.vocabulary.encode("fadedbeefca")
    expected = by_hand(arrays, "embedding rnn linear", "lstm", old)
    order = ["fbcade".index(character) for character in "abcdef"]
    np.testing.assert_allclose(ours(model, new), expected[:, order], rtol=0, atol=1e-5)


def test_line_breaks_among_characters(tmp_path: Path) -> None:
    """A line break at the end is a character where there must be one more."""
    assert imported(tmp_path, network(), "abcde\n").vocabulary.units == list("\nabcde")
    assert imported(tmp_path, network(), "\nabcde\n").vocabulary.units == list("\nabcde")


def test_an_entry_for_unknown_characters(tmp_path: Path) -> None:
    units = ["<unk>", *"dcbae"]
    model = imported(tmp_path, network(), units_json(units), "units.json")
    assert model.vocabulary.units == [*"abcde", "<unk>"]
    assert model.vocabulary.unknown == 5
    assert model.config.text.max_vocabulary == 6
    assert math.isfinite(model.evaluate("abcx").nats_per_char)


def test_words_keep_their_order(tmp_path: Path) -> None:
    units = ["the", "<eos>", "sea", "<unk>", "a", "boat"]
    model = imported(tmp_path, network(), units_json(units), "units.json")
    assert model.vocabulary.units == ["<unk>", "<eos>", "the", "sea", "a", "boat"]
    assert model.config.text.unit == "word"
    E = model.checkpoint.model().weights["E"]
    np.testing.assert_array_equal(E, network()["embedding.weight"][[3, 1, 0, 2, 4, 5]])


def test_bytes(tmp_path: Path) -> None:
    units = [f"0x{byte:02x}" for byte in reversed(range(256))]
    arrays = network(V=256)
    model = imported(tmp_path, arrays, json.dumps(units), "units.json")
    assert model.config.text.unit == "byte"
    E = model.checkpoint.model().weights["E"]
    np.testing.assert_array_equal(E, arrays["embedding.weight"][::-1])
    assert math.isfinite(model.evaluate("é\n").nats_per_unit)


@pytest.mark.parametrize(
    ("name", "vocabulary", "reason"),
    [
        ("units", "abcdefg", "7 units, and its weights are for 6"),
        ("units", "abcde", "5 units, and its weights are for 6"),
        ("units", "abcdea", "a unit twice"),
        ("units", "", "0 units"),
        ("u.json", "abcdef", "is not JSON"),
        ("u.json", "[", "is not JSON"),
        ("u.json", "[" * 20, "is not JSON"),
        ("u.json", "[" * 100_000, "more than 28 parts"),
        ("u.json", json.dumps("abcdef"), "not a list of texts"),
        ("u.json", json.dumps([*"abcde", 7]), "not a list of texts"),
        ("u.json", json.dumps([*"abcde", ["f"]]), "not a list of texts"),
        ("u.json", json.dumps({**dict.fromkeys("abcdef", 0)}), "are not 0 to 5"),
        ("u.json", json.dumps({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}), "not 0 to 5"),
        ("u.json", json.dumps({"a": True, **{c: k for k, c in enumerate("bcdef")}}), "not whole"),
        ("u.json", json.dumps({"a": "0"}), "not whole"),
        ("u.json", '{"a": 0, "a": 0}', "a key twice"),
        ("u.json", json.dumps([*"abcde", "<pad>"]), "'<pad>' is no character"),
        ("u.json", json.dumps([*"abcde", ""]), "'' is no character"),
        ("u.json", json.dumps([*"abcde", "\ud800"]), "not text"),
        ("u.json", json.dumps(["<unk>", "<eos>", *"abc", "d e"]), "words with white space"),
        ("u.json", json.dumps(["<unk>", "<eos>", *"abc", "d\ud800"]), "not text"),
    ],
)
def test_vocabularies_that_do_not_fit(
    name: str, vocabulary: str, reason: str, tmp_path: Path
) -> None:
    units = tmp_path / name
    units.write_text(vocabulary)
    path = written(tmp_path / "m.st", network())
    process = run("import", path, "--vocabulary", units, "-o", tmp_path / "m.npz")
    fails(process, 3, f"{units}: ", reason)
    assert not (tmp_path / "m.npz").exists()


def test_a_vocabulary_is_needed_once(tmp_path: Path) -> None:
    path = written(tmp_path / "m.st", network())
    fails(run("import", path, "-o", tmp_path / "m.npz"), 3, "6 units", "--vocabulary FILE")
    charlstm.export_model(language(), tmp_path / "own.st", "torch")
    (tmp_path / "units").write_text("abc")
    process = run(
        *("import", tmp_path / "own.st", "--vocabulary", tmp_path / "units"), cwd=tmp_path
    )
    fails(process, 2, "has a vocabulary of its own", "leave --vocabulary out")


# --- using what was imported ---------------------------------------------------------------------


def nats(model: charlstm.LanguageModel) -> float:
    return model.evaluate(TEXT).nats_per_unit


@pytest.mark.parametrize("unit", ["char", "word"])
def test_training_goes_on(unit: str, tmp_path: Path) -> None:
    """From these weights, whatever the order of words was, with any optimizer and batch."""
    (tmp_path / "corpus").write_text(TEXT)
    first = {"train.steps": 60, "model.hidden": 24, "text.unit": unit, "model.embedding": 8}
    for _ in charlstm.train(tmp_path / "corpus", tmp_path / "m.npz", settings=first):
        pass
    model = charlstm.load(tmp_path / "m.npz")
    charlstm.export_model(model, tmp_path / "m.st", "torch")
    from charlstm.exchange.safetensors import unpack

    arrays = unpack((tmp_path / "m.st").read_bytes()).arrays
    rng = np.random.default_rng(0)
    order = rng.permutation(len(model.vocabulary))
    for name in ("embedding.weight", "linear.weight", "linear.bias"):
        arrays[name] = arrays[name][order]
    written(tmp_path / "other.st", arrays)
    units = [model.vocabulary.units[k] for k in order]
    (tmp_path / "units.json").write_text(json.dumps(units))
    done = run(
        *("import", tmp_path / "other.st", "-o", tmp_path / "other.npz"),
        *("--vocabulary", tmp_path / "units.json"),
    )
    assert done.returncode == 0, done.stderr
    other = charlstm.load(tmp_path / "other.npz")
    assert nats(other) == pytest.approx(nats(model), abs=1e-5)
    assert b"not known" in run("info", tmp_path / "other.npz").stdout
    assert sampled(tmp_path / "other.npz", "-n", "20", "-t", "0", "--seed", "the sea") != ""
    done = run(
        *("train", tmp_path / "corpus", "-o", tmp_path / "other.npz", "--resume", "--steps", "5"),
        *("--set", "train.optimizer=adam", "--set", "train.lr=0.001", "--set", "train.batch=4"),
    )
    assert done.returncode == 0, done.stderr
    trained = charlstm.load(tmp_path / "other.npz")
    assert trained.checkpoint.progress.step == 5
    assert trained.config.train.optimizer == "adam"
    assert trained.vocabulary.units == model.vocabulary.units  # as the corpus has them
    assert abs(nats(trained) - nats(model)) < 0.3 < math.log(len(units)) - nats(model)
    done = run("train", tmp_path / "corpus", "-o", tmp_path / "other.npz", "--resume", "--steps=9")
    assert done.returncode == 0, done.stderr
    assert charlstm.load(tmp_path / "other.npz").checkpoint.progress.step == 9


def test_training_on_what_does_not_go_with_the_weights(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("abcdef" * 50)
    (tmp_path / "more").write_text("abcdefgh" * 50)
    path = written(tmp_path / "m.st", network())
    (tmp_path / "units").write_text(CHARACTERS)
    output = tmp_path / "m.npz"
    run("import", path, "--vocabulary", tmp_path / "units", "-o", output)
    before = output.read_bytes()
    resume = ("--resume", "-o", output, "--steps", "2")
    fails(run("train", tmp_path / "more", *resume), 2, "has 6 characters, the corpus 8", "'g', 'h'")
    of_bytes = ("--set", "text.unit=byte")
    fails(run("train", tmp_path / "corpus", *resume, *of_bytes), 2, "6 characters")
    hidden = ("--set", "model.hidden=5")
    fails(run("train", tmp_path / "corpus", *resume, *hidden), 2, "another network")
    assert output.read_bytes() == before
    assert run("train", tmp_path / "corpus", *resume).returncode == 0


def test_a_model_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the script of the docs has trained there, scores and samples here."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text(TEXT, encoding="utf-8")
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(block("script", "import.md"), names)
    net, ids = names["net"], names["ids"]
    with torch.no_grad():
        logits = net["linear"](net["lstm"](net["embedding"](ids[:-1]))[0])
        losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none").numpy()
    assert losses.mean() < 2.5 < math.log(len(names["units"]))
    done = run("import", "net.safetensors", "--vocabulary", "units.txt", "-o", "net.npz")
    assert done.returncode == 0, done.stderr
    model = charlstm.load("net.npz")
    assert model.vocabulary.units != names["units"]
    np.testing.assert_allclose(model.surprisals(TEXT), losses, rtol=0, atol=1e-5)
    assert (
        len(sampled(Path("net.npz"), "--seed", "the ", "-n", "30", "--no-echo").rstrip("\n")) == 30
    )
    done = run("evaluate", "-m", "net.npz", "corpus.txt", "--json")
    assert json.loads(done.stdout)["nats_per_char"] == pytest.approx(losses.mean(), abs=1e-5)
    assert run("info", "net.npz", "--verify").returncode == 0


# --- the command ---------------------------------------------------------------------------------


def test_streams(tmp_path: Path) -> None:
    """The file from a pipe, the model into one."""
    model = language()
    charlstm.export_model(model, tmp_path / "m.st", "safetensors")
    done = run("import", "-", "-o", "-", stdin=(tmp_path / "m.st").read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(b" characters\n")  # no command to try: the model has no name
    (tmp_path / "m.npz").write_bytes(done.stdout)
    assert_equal(charlstm.load(tmp_path / "m.npz"), model)
    fails(run("import", "-", "--vocabulary", "-", "-o", "-"), 2, "both want standard input")
    done = run("import", tmp_path / "m.st", "-o", "same.npz", cwd=tmp_path)
    assert b"wrote same.npz: lstm, " in done.stderr
    assert b"try: charlstm sample -m same.npz" in done.stderr
    assert (tmp_path / "same.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()


def test_the_default_output(tmp_path: Path) -> None:
    charlstm.export_model(language(), tmp_path / "m.st", "safetensors")
    assert run("import", "m.st", cwd=tmp_path).returncode == 0
    assert (tmp_path / "charlstm.npz").exists()
    env = {"CHARLSTM_MODEL": "named.npz"}
    assert run("import", "m.st", cwd=tmp_path, env=env).returncode == 0
    assert (tmp_path / "named.npz").exists()


def test_an_output_is_never_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "m.st"
    charlstm.export_model(language(), path, "safetensors")
    output = tmp_path / "m.npz"
    output.write_text("mine")
    fails(run("import", path, "-o", output), 2, "exists; replace it (--force)")
    fails(run("import", path, "-o", path, "--force"), 2, "is the file too")
    process = run("import", path, "--vocabulary", output, "-o", output, "--force")
    fails(process, 2, "is the vocabulary too")
    assert output.read_text() == "mine"
    assert run("import", path, "-o", output, "--force").returncode == 0
    assert_equal(charlstm.load(output), language())


def test_what_is_no_file(tmp_path: Path) -> None:
    output = ("-o", tmp_path / "m.npz")
    fails(run("import", tmp_path / "none.st", *output), 2, "no such file")
    fails(run("import", tmp_path, *output), 3, "is a directory")
    fails(run("import", *output), 2, "FILE")
    path = written(tmp_path / "m.st", network())
    process = run("import", path, "--vocabulary", tmp_path / "none", *output)
    fails(process, 2, "none: no such file")
    (tmp_path / "units").write_bytes(b"\xff" * 6)
    process = run("import", path, "--vocabulary", tmp_path / "units", *output)
    fails(process, 3, "not UTF-8")
    assert not (tmp_path / "m.npz").exists()


def test_an_rnn_is_taken_for_one_with_tanh(tmp_path: Path) -> None:
    """Its file does not say; the user is told."""
    path = written(tmp_path / "m.st", network("rnn"))
    (tmp_path / "units").write_text(CHARACTERS)
    done = run("import", path, "--vocabulary", tmp_path / "units", "-o", tmp_path / "m.npz")
    assert b"taken for one with tanh" in done.stderr


def test_reordered() -> None:
    """What a model says of units in another order is the same."""
    for ends in ("one-hot", "embedded", "tied", "projected"):
        model: Model = language(ends=ends).checkpoint.model()
        order = np.random.default_rng(1).permutation(model.V)
        other = model.reordered(order.tolist())
        assert np.array_equal(other.Wy, model.Wy[order])
        back = other.reordered(np.argsort(order).tolist())
        assert back.weights.flat.tobytes() == model.weights.flat.tobytes()
        assert other.weights.flat.tobytes() != model.weights.flat.tobytes()
