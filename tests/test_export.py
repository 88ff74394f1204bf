"""`charlstm export`: the same numbers in other programs, and the same bits on the way back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from exchanged import (
    TEXT,
    assert_equal,
    every_cell,
    every_depth,
    every_end,
    every_unit,
    ids_of,
    language,
    log_probabilities,
    ours,
)
from support import STORY, block, fails, run, sampled

import charlstm
from charlstm.cli import export
from charlstm.exchange.exports import FORMATS, parts
from charlstm.exchange.pytorch import loading
from charlstm.exchange.safetensors import unpack
from charlstm.storage.checkpoint import write_checkpoint


def save(model: charlstm.LanguageModel, path: Path) -> Path:
    """A checkpoint at `path`."""
    write_checkpoint(path, model.checkpoint)
    return path


# --- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["safetensors", "torch"])
@every_unit
@every_depth
@every_end
@every_cell
def test_a_round_trip(
    cell: str, ends: str, widths: tuple[int, ...], unit: str, to: str, tmp_path: Path
) -> None:
    """Weights, configuration and vocabulary are the same bits, and so are scores."""
    before = language(cell, ends, widths, **{"text.unit": unit})
    charlstm.export_model(before, tmp_path / "m.st", to)
    after = charlstm.import_model(tmp_path / "m.st", tmp_path / "m.npz")
    assert_equal(before, after)
    again = charlstm.load(tmp_path / "m.npz")
    assert_equal(before, again)
    assert again.surprisals(TEXT).tobytes() == before.surprisals(TEXT).tobytes()
    assert again.evaluate(TEXT) == before.evaluate(TEXT)


@pytest.mark.parametrize("to", ["safetensors", "torch"])
@pytest.mark.parametrize(
    "keys",
    [
        {"text.unit": "byte"},
        {"text.min_count": 4},
        {"text.max_vocabulary": 30, "text.unit": "word"},
        {"text.normalize": "nfd", "train.optimizer": "adam", "train.average": 0.0},
        {"text.normalize": "nfkc", "sample.stop": ["\n", '"'], "sample.seed": "은"},
    ],
    ids=["bytes", "unk", "rare words", "nfd", "nfkc"],
)
def test_a_round_trip_of_texts(keys: dict[str, Any], to: str, tmp_path: Path) -> None:
    """Of other units, normal forms and characters, and of what JSON escapes."""
    text = TEXT + '은여울 나루에 배가 🚢 "\\" a\u2028b \x1f é\n' * 5
    before = language(text=text, **keys)
    charlstm.export_model(before, tmp_path / "m.st", to)
    after = charlstm.import_model(tmp_path / "m.st")
    assert_equal(before, after)
    assert after.evaluate(text) == before.evaluate(text)


def test_what_has_adapted_is_exported(tmp_path: Path) -> None:
    adapted = language().adapting()
    adapted.evaluate(TEXT)
    charlstm.export_model(adapted, tmp_path / "m.st", "safetensors")
    weights = charlstm.import_model(tmp_path / "m.st").checkpoint.best
    assert weights.tobytes() == adapted.adaptive.model.weights.flat.tobytes()
    assert weights.tobytes() != adapted.checkpoint.best.tobytes()


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for to in FORMATS:
        for needed in {"onnx": ["onnx"], "html": ["jinja2"]}.get(to, []):
            pytest.importorskip(needed)
        one, other = (b"".join(parts(language("gru", "tied"), to)) for _ in range(2))
        assert one == other


# --- other programs ------------------------------------------------------------------------------


@every_unit
@every_depth
@every_end
@every_cell
def test_pytorch_computes_the_same(
    cell: str, ends: str, widths: tuple[int, ...], unit: str, tmp_path: Path
) -> None:
    """By the lines that the command prints, over the text at once and in two parts."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    model = language(cell, ends, widths, **{"text.unit": unit})
    path = save(model, tmp_path / "m.npz")
    done = run("export", path, "--to", "torch", "-o", "it's.st", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"wrote it's.st" in done.stderr
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(compile(done.stdout, "loading", "exec"), names)
    assert names["units"] == model.vocabulary.units
    ids = ids_of(model)
    column = torch.from_numpy(ids[:, None])
    with torch.no_grad():
        whole, _ = names["network"](column)
        first, state = names["network"](column[:200])
        second, _ = names["network"](column[200:], state)
    expected = ours(model, ids)
    for logits in (whole, torch.cat([first, second])):
        np.testing.assert_allclose(
            log_probabilities(logits[:, 0].numpy()), expected, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("ends", ["one-hot", "tied", "projected"])
@every_cell
def test_a_model_that_was_trained_on_in_pytorch(
    cell: str, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comes back by the lines of the docs, with all its biases; a GRU's is held at zero."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    model = language(cell, ends)
    charlstm.export_model(model, "en.safetensors", "torch")
    names: dict[str, Any] = {"torch": torch}
    exec(loading(model.checkpoint.model().shape, "en.safetensors"), names)
    if cell == "gru":
        exec(block("hold", "import.md"), names)
    network, ids = names["network"], torch.from_numpy(ids_of(model)[:, None])
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.5)
    logits, _ = network(ids[:-1])
    torch.nn.functional.cross_entropy(logits[:, 0], ids[1:, 0]).backward()
    optimizer.step()
    exec(block("tuned", "export.md"), names)
    with torch.no_grad():
        expected = log_probabilities(network(ids)[0][:, 0].numpy())
    tuned = charlstm.import_model("tuned.safetensors")
    assert tuned.config == model.config
    np.testing.assert_allclose(ours(tuned, ids_of(model)), expected, rtol=0, atol=1e-5)
    assert np.abs(ours(model, ids_of(model)) - expected).max() > 1e-3


def test_the_lines_for_pytorch_are_few() -> None:
    lines = loading(language().checkpoint.model().shape, "m.st").splitlines()
    assert sum(map(bool, lines)) <= 16


@every_unit
@every_depth
@every_end
@every_cell
def test_onnxruntime_computes_the_same(
    cell: str, ends: str, widths: tuple[int, ...], unit: str, tmp_path: Path
) -> None:
    """Whole sequences of two streams, and one step after the other; also where a unit is outside
    the vocabulary."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = language(cell, ends, widths, **{"text.unit": unit})
    charlstm.export_model(model, tmp_path / "m.onnx", "onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"]
    )
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["vocabulary"]) == model.vocabulary.units
    ids = ids_of(model)
    ids[100:103] = model.vocabulary.unknown
    assert (ids < 0).any() == (unit == "char")
    streams = np.stack([ids, ids[::-1]], axis=1)
    expected = ours(model, ids)
    states = model.checkpoint.model().shape.states

    def feed(ids: Any, state: Any) -> tuple[Any, list[Any]]:
        names = dict(zip(states, state, strict=True))
        logits, *after = session.run(None, {"ids": ids, **names})
        return log_probabilities(logits), after

    whole, _ = feed(streams, [np.zeros((1, 2, H), np.float32) for H in states.values()])
    np.testing.assert_allclose(whole[:, 0], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(whole[:, 1], ours(model, ids[::-1]), rtol=0, atol=1e-5)
    state = [np.zeros((1, 1, H), np.float32) for H in states.values()]
    for k, row in enumerate(expected):
        after, state = feed(ids[k : k + 1, None], state)
        np.testing.assert_allclose(after[0, 0], row, rtol=0, atol=1e-5)


def test_the_onnx_script_of_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints what `sample` does."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    path = save(language(), tmp_path / "en.npz")
    charlstm.export_model(charlstm.load(path), "en.onnx", "onnx")
    exec(block("onnx", "export.md"), {})
    assert capsys.readouterr().out == sampled(path, "--seed", "The lamp ", "-t", "0", "-n", "40")


@every_end
@every_cell
def test_json_is_plain_numbers(cell: str, ends: str) -> None:
    """The weights to the bit, and with the equations of `reference` the same logits."""
    model = language(cell, ends, (7, 9))
    document = json.loads(b"".join(parts(model, "json")))
    weights = {name: np.array(w, np.float32) for name, w in document["weights"].items()}
    best = model.checkpoint.model().weights
    assert list(weights) == list(best)
    for name, w in weights.items():
        assert w.shape == best[name].shape
        assert w.tobytes() == best[name].tobytes()
    assert document["cell"] == cell
    assert tuple(document["gates"]) == model.checkpoint.model().cell.gates
    assert document["vocabulary"] == model.vocabulary.units
    assert document["config"] == model.config.to_dict()
    ids = ids_of(model, 30)
    states = [np.zeros((1, H)) for H in model.checkpoint.model().shape.states.values()]
    logits, _ = reference.forward(cell, 2, weights, ids[:, None], states)
    expected = ours(model, ids)
    np.testing.assert_allclose(log_probabilities(logits[:, 0]), expected, rtol=0, atol=1e-5)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    model = language("gru", "projected")
    for to in ("safetensors", "torch"):
        charlstm.export_model(model, tmp_path / to, to)
        arrays, _ = unpack((tmp_path / to).read_bytes())
        theirs = numpy.load_file(tmp_path / to)
        assert theirs.keys() == arrays.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(array, arrays[name])
        with safetensors.safe_open(tmp_path / to, "np") as file:
            assert json.loads(file.metadata()["vocabulary"]) == model.vocabulary.units


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return save(language(), tmp_path_factory.mktemp("export") / "m.npz")


def test_the_choice_is_that_of_the_library() -> None:
    assert tuple(FORMATS) == export.FORMATS


def test_standard_output(path: Path) -> None:
    done = run("export", path, "--to", "safetensors", "-o", "-")
    assert done.stdout == b"".join(parts(charlstm.load(path), "safetensors"))
    assert done.stderr == b""
    done = run("export", "-", "--to", "json", "-o", "-", stdin=path.read_bytes())
    assert json.loads(done.stdout)["cell"] == "lstm"


def test_the_model_by_its_option_and_by_the_environment(path: Path, tmp_path: Path) -> None:
    written = []
    ways: list[tuple[list[str | Path], dict[str, str]]]
    ways = [(["-m", path], {}), ([], {"CHARLSTM_MODEL": str(path)})]
    for k, (given, env) in enumerate(ways):
        output = tmp_path / f"{k}.json"
        assert run("export", *given, "--to", "json", "-o", output, env=env).returncode == 0
        written.append(output.read_bytes())
    assert written[0] == written[1] == b"".join(parts(charlstm.load(path), "json"))


def test_an_output_is_never_replaced_unasked(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.json"
    output.write_text("mine")
    asked = ("export", path, "--to", "json", "-o", output)
    fails(run(*asked), 2, "exists; replace it (--force)")
    assert output.read_text() == "mine"
    output.chmod(0o600)
    assert run(*asked, "--force").returncode == 0
    assert json.loads(output.read_bytes())["cell"] == "lstm"
    assert output.stat().st_mode & 0o777 == 0o600
    fails(run("export", path, "--to", "json", "-o", path, "--force"), 2, "is the model too")
    fails(run("export", path, "--to", "json", "-o", tmp_path, "--force"), 2, "is a directory")
    fails(run("export", path, "--to", "json", "-o", tmp_path / "no" / "m"), 6, "cannot be written")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.json"]


def test_what_is_wrong_is_one_line(path: Path, tmp_path: Path) -> None:
    fails(run("export", path, "-o", "x"), 2, "--to", "Choose from: safetensors, torch, onnx,")
    fails(
        run("export", path, "-m", "b.npz", "--to", "json", "-o", "x"), 2, "two models", "-m b.npz"
    )
    fails(run("export", path, "--to", "json"), 2, "--output")
    fails(run("export", path, "--to", "pickle", "-o", "x"), 2, "pickle")
    fails(run("export", path, "--to", "torch", "-o", "-"), 2, "the lines that load the file")
    fails(run("export", tmp_path / "none.npz", "--to", "json", "-o", "x"), 2, "no such checkpoint")
    fails(run("export", STORY, "--to", "json", "-o", "x"), 3, "not a checkpoint")
    with pytest.raises(charlstm.UsageError, match="'pickle' is no format"):
        charlstm.export_model(charlstm.load(path), tmp_path / "x", "pickle")
    mixture = charlstm.mix([charlstm.load(path), charlstm.load(path)])
    with pytest.raises(charlstm.UsageError, match="a mixture is no single network"):
        charlstm.export_model(mixture, tmp_path / "x", "json")


def test_a_missing_package_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else needs one."""
    for name in ("onnx", "safetensors", "torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    output = tmp_path / "m.onnx"
    fails(run("export", path, "--to", "onnx", "-o", output), 2, "pip install 'charlstm[export]'")
    assert not output.exists()
    for to in ("safetensors", "torch", "json"):
        assert run("export", path, "--to", to, "-o", tmp_path / to).returncode == 0
    assert run("import", tmp_path / "torch", "-o", tmp_path / "m.npz").returncode == 0


def test_a_vocabulary_too_large_for_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would not be read again is not written."""
    monkeypatch.setattr("charlstm.exchange.safetensors.MOST_HEADER", 1000)
    with pytest.raises(charlstm.UsageError, match="takes more than 1,000 bytes"):
        charlstm.export_model(language(), tmp_path / "m.st", "torch")
    assert not list(tmp_path.iterdir())


def test_a_model_too_large_for_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr("charlstm.exchange.graph.MOST_BYTES", (1 << 20) + 1000)
    with pytest.raises(charlstm.UsageError, match="too large for an ONNX file"):
        charlstm.export_model(language(), tmp_path / "m.onnx", "onnx")
