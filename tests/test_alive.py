"""Section "Try it" without a browser: what Python hands to the page."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import POLYGLOT, every_unit, fails, language_of, random_model, run, trained

import charlstm
from charlstm.errors import UsageError
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.report import alive as module
from charlstm.report.alive import LARGEST, alive, alive_page


def weights_of(data: dict[str, Any]) -> np.ndarray[Any, Any]:
    weights = data["weights"]
    return np.frombuffer(base64.b64decode(weights["base64"]), weights["precision"])


@every_unit
def test_the_weights_are_those_of_the_model(tmp_path: Path, unit: str) -> None:
    """To the bit, under the names and shapes that the model has; and all of it is JSON."""
    path = trained(tmp_path / "m.npz", POLYGLOT, 2, **{"text.unit": unit, "model.hidden": 5})
    language = charlstm.load(path)
    data = json.loads(json.dumps(alive(language)))
    assert isinstance(language.model, Model)
    assert data["weights"]["precision"] == "<f4"
    assert (weights_of(data) == language.model.weights.flat).all()
    shapes = {name: tuple(shape) for name, shape in data["weights"]["shapes"].items()}
    assert shapes == language.model.shape.weights
    assert list(shapes) == list(language.model.shape.weights)
    v = language.vocabulary
    assert data["vocabulary"]["units"] == (v.units if unit != "byte" else [])
    assert data["vocabulary"]["unknown"] == v.unknown
    assert data["vocabulary"]["line_end"] == v.line_end
    assert data["temperature"] == 0.8


def test_what_is_too_large_is_rounded_then_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """To 16 bits, where that is small enough; else the reason stands in its place."""
    model, v = random_model()
    language, flat = language_of(model, v), model.weights.flat
    flat[0] = 1e6  # beyond what 16 bits can hold
    whole = len(base64.b64encode(flat.astype("<f4").tobytes()))
    monkeypatch.setattr(module, "LARGEST", whole)
    assert alive(language)["weights"]["precision"] == "<f4"
    monkeypatch.setattr(module, "LARGEST", whole - 1)
    halves = weights_of(alive(language))
    np.testing.assert_allclose(halves[1:], flat[1:], rtol=2**-11, atol=2**-25)
    assert halves[0] == 65504
    monkeypatch.setattr(module, "LARGEST", whole // 2 - 4)
    most = (whole // 2 - 4) // 4 * 3 // 2
    assert alive(language) == {"left_out": {"weights": len(flat), "most": most}}
    assert most < len(flat)
    with pytest.raises(UsageError, match=f"{len(flat):,} weights are too many for a page"):
        alive_page(language, lang="en", title="large")


def test_two_layers_of_512_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a hundred units, into less than 12 MB with all else on the page."""
    size = Shape("lstm", 100, 512, 2).size
    assert size * 4 * 4 / 3 > LARGEST >= size * 2 * 4 / 3
    assert Shape("lstm", 65, 100).size * 4 * 4 / 3 < 1e6


def test_a_mixture_has_no_page(tmp_path: Path) -> None:
    files = [
        trained(tmp_path / f"{n}.npz", "hello\n" * 20, 2, **{"train.rng_seed": n}) for n in (1, 2)
    ]
    mixed = charlstm.mix([charlstm.load(path) for path in files])
    with pytest.raises(UsageError, match="a mixture"):
        alive(mixed)


def test_the_same_page_each_time(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    language = charlstm.load(trained(tmp_path / "m.npz", "hello\n" * 20, 2))
    first = alive_page(language, lang="en", title="hello")
    assert first == alive_page(language, lang="en", title="hello")
    assert first != alive_page(language, lang="ko", title="hello")
    assert len(first) < 1_500_000


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return trained(tmp_path / "the lamp.npz", "hello\n" * 20, 2)


def test_a_page_beside_the_model(path: Path) -> None:
    """By default it has the model's name, in the title too; it is not replaced unasked."""
    pytest.importorskip("jinja2")
    done = run("export", path, "--to", "html")
    page = path.with_suffix(".html")
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode() == f"charlstm: wrote {page}\n"
    expected = alive_page(charlstm.load(path), lang="en", title="the lamp")
    assert page.read_text(encoding="utf-8") == expected
    fails(run("export", path, "--to", "html"), 2, f"{page} exists", "--force")
    assert run("export", path, "--to", "html", "--force", "--lang", "ko").returncode == 0
    assert '<html lang="ko">' in page.read_text(encoding="utf-8")


def test_a_page_on_standard_output(path: Path) -> None:
    pytest.importorskip("jinja2")
    options = ("--to", "html", "-o", "-", "--title", "</title>&")
    done = run("export", "-", *options, stdin=path.read_bytes())
    assert b"<title>&lt;/title&gt;&amp;</title>" in done.stdout
    fails(run("export", "-", "--to", "html", stdin=path.read_bytes()), 2, "name the page with -o")


@pytest.mark.parametrize("option", [("--lang", "ko"), ("--title", "x")])
def test_what_only_a_page_has(path: Path, option: tuple[str, str]) -> None:
    done = run("export", path, "--to", "json", "-o", "x.json", *option)
    fails(done, 2, f"{option[0]} is for a page")


def test_other_exports_have_no_name_of_their_own(path: Path) -> None:
    fails(run("export", path, "--to", "json"), 2, "-o/--output")


def test_without_jinja2(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("export", path, "--to", "html")
    fails(done, 2, "pip install 'charlstm[report]'")
    assert not path.with_suffix(".html").exists()
