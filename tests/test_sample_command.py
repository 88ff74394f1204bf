"""`sample` on the command line: one rule for what is drawn, for nats, for lines and for lists."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import CORPORA, STORY, fails, records, run, trained

import charlstm
from charlstm.errors import UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = STORY.read_text(encoding="utf-8")[:20_000]
    return trained(tmp_path_factory.mktemp("story") / "m.npz", text, 120)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = STORY.read_text(encoding="utf-8")[:20_000]
    keys = {"text.unit": "word", "text.min_count": 3}
    return trained(tmp_path_factory.mktemp("words") / "m.npz", text, 60, **keys)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A model of the names of a list, and these."""
    known = (CORPORA / "names.txt").read_text(encoding="utf-8").split()[:300]
    path = tmp_path_factory.mktemp("names") / "m.npz"
    return trained(path, "\n".join(known) + "\n", 400), known


def out(*arguments: str | Path, stdin: str = "") -> str:
    process = run("sample", *arguments, stdin=stdin)
    assert process.returncode == 0, process.stderr
    return process.stdout.decode("utf-8")


def objects(*arguments: str | Path, stdin: str = "") -> list[Any]:
    return [json.loads(line) for line in out(*arguments, "--json", stdin=stdin).splitlines()]


# --- the same seed, the same text --------------------------------------------------------------


@pytest.mark.parametrize("of", ["model", "words"])
def test_sample_k_depends_on_the_seed_and_k(of: str, request: pytest.FixtureRequest) -> None:
    """By --count, --json, --each, --unique, --match and from Python."""
    path: Path = request.getfixturevalue(of)
    asked = ("-m", path, "--seed", "and the", "-n", "30", "--rng-seed", "7", "--no-echo")
    separated = (*asked, "--separator", r"\0")
    many = out(*separated, "--count", "5").removesuffix("\0").split("\0")
    assert len(set(many)) == 5
    assert out(*asked).removesuffix("\n") == many[0]
    assert out(*separated, "--count", "2").removesuffix("\0").split("\0") == many[:2]
    assert [o["text"] for o in objects(*asked, "--count", "5")] == many
    assert objects(*asked)[0]["text"] == many[0]
    assert out(*separated, "--unique", "--count", "5").removesuffix("\0").split("\0") == many
    whole = out(*asked, "--match", r"(.|\n)*").removesuffix("\n")
    assert whole.split("\n")[0] == many[0].split("\n")[0]
    unseeded = [a for a in asked if a not in ("--seed", "and the")]
    (each,) = objects("--each", *unseeded, stdin="and the")
    assert each["text"] == many[0].split("\n")[0]
    python = charlstm.load(path).sample("and the", length=30, rng_seed=7)
    assert "".join(python) == many[0]


def test_nul_between_samples_for_xargs(model: Path) -> None:
    """One argument for each sample, whatever is in it."""
    asked = ("-m", model, "-n", "20", "--count", "3", "--rng-seed", "1", "--separator", r"\0")
    text = out(*asked)
    script = "import sys; print(ascii(sys.argv[1:]))"
    shown = subprocess.run(
        ["xargs", "-0", sys.executable, "-c", script], input=text.encode(), capture_output=True
    )
    samples = [o["text"] for o in objects(*asked)]
    assert shown.stdout.decode() == ascii(samples) + "\n"


# --- nats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [(), ("--stop", "e"), ("--match", "[a-z ]{1,12}"), ("--count", "3"), ("--best-of", "3")],
    ids=["plain", "stop", "match", "count", "best of"],
)
@pytest.mark.parametrize("of", ["model", "words"])
@pytest.mark.parametrize("seed", ["and the ", ""])
def test_nats_are_those_of_evaluate(
    of: str, options: tuple[str, ...], seed: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(of)
    asked = ("-m", path, "-n", "15", "--rng-seed", "3", "-t", "1.3", "--top-k", "20")
    model = charlstm.load(path)
    for found in objects(*asked, "--seed", seed, *options):
        before = seed or "\n"
        nats = model.evaluate(before + found["text"]).nats - model.evaluate(before).nats
        assert found["nats"] == pytest.approx(nats, abs=1e-3)


# --- new lines ---------------------------------------------------------------------------------


def test_a_line_that_is_cut_is_no_new_one(names: tuple[Path, list[str]], tmp_path: Path) -> None:
    """--novel wants whole lines; where they do not fit, the notice says why none was found."""
    path, known = names
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(known) + "\n")
    asked = ("-m", path, "--count", "30", "--unique", "--novel", listed, "--rng-seed", "1")
    ends = [o["stop"] for o in objects(*asked, "-n", "6")]
    assert ends == ["stop"] * 30
    process = run("sample", *asked, "-n", "1")
    assert process.returncode == 1
    assert re.search(rb"found 0 of 30 .* not new; \d+ were cut by --length", process.stderr)


@pytest.mark.parametrize("end", ["\r\n", "  \n", "\t\r\n"])
def test_copies_are_found_whatever_the_list_ends_its_lines_with(
    names: tuple[Path, list[str]], tmp_path: Path, end: str
) -> None:
    path, known = names
    listed = tmp_path / "list.txt"
    listed.write_bytes("".join(f"{name}{end}" for name in known).encode())
    found = out("-m", path, "--count", "60", "--novel", listed, "--rng-seed", "2", "-t", "0.5")
    assert not set(known) & set(found.split())


def test_a_model_of_crlf_text(tmp_path: Path) -> None:
    """Its lines end where they do: matches, lines continued and new lines have no CR."""
    rng = random.Random(0)
    known = ["".join(rng.choices("abcde", k=rng.randint(3, 6))).title() for _ in range(300)]
    path = trained(tmp_path / "m.npz", "\r\n".join(known) + "\r\n", 300)
    asked = ("-m", path, "--rng-seed", "1", "-n", "40")
    matched = [o["text"] for o in objects(*asked, "--match", "[A-Z][a-z]+", "--count", "50")]
    assert sum(map(len, matched)) / len(matched) < 12
    for more in (("--each",), ("--novel", CORPORA / "names.txt", "--count", "3")):
        process = run("sample", *asked, *more, stdin="Ab\nBe\n" if "--each" in more else "")
        assert process.returncode == 0
        assert b"\r" not in process.stdout
        assert len(process.stdout.splitlines()) == (2 if "--each" in more else 3)


# --- expressions -------------------------------------------------------------------------------


def test_a_list_of_four_thousand_names(model: Path) -> None:
    rng = random.Random(1)
    letters = "abcdefghijklmnoprstuvw"
    listed = {"".join(rng.choices(letters, k=rng.randint(4, 10))) for _ in range(4000)}
    found = out("-m", model, "--match", "|".join(sorted(listed)), "--count", "20", "--no-echo")
    assert set(found.split()) <= listed


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("|".join(f"name{n}" for n in range(9000)) + "(", ["name0|name1|", "…'", "not closed"]),
        (r"\d+\.(", [r"'\d+\.('", "not closed"]),
        ("[[:digits:]]", ["[:digits:] is no class", "digit"]),
    ],
)
def test_errors_of_expressions(model: Path, expression: str, parts: list[str]) -> None:
    message = fails(run("sample", "-m", model, "--match", expression), 2, *parts)
    assert len(message) < 300


def test_a_space_is_missing_before_words(words: Path) -> None:
    process = run("sample", "-m", words, "--seed", "and the", "--match", "the.*")
    fails(process, 2, "begins with a space, since the seed ends with a word")
    process = run("sample", "-m", words, "--seed", "and the", "--match", " the.*", "-n", "5")
    assert process.stdout.startswith(b"and the the")


def test_classes_of_posix(model: Path) -> None:
    found = out("-m", model, "--match", "[[:alpha:]]{3}[[:space:]][[:lower:]]+", "--rng-seed", "1")
    assert re.fullmatch(r"[^\W\d_]{3}\s[a-z]+", found.removesuffix("\n"))


# --- samples in training, and Python -----------------------------------------------------------


def test_samples_in_training_are_those_of_sample(tmp_path: Path) -> None:
    """With stop texts, count and beginning of the configuration's section `sample`."""
    text = STORY.read_text(encoding="utf-8")[:9000]
    (tmp_path / "c.txt").write_text(text)
    settings = {
        "train.steps": 20,
        "train.sample_every": 20,
        "model.hidden": 20,
        "train.batch": 2,
        "sample.stop": ["."],
        "sample.count": 3,
        "sample.seed": "The lamp",
        "sample.length": 60,
        "sample.temperature": 0.5,
    }
    training = charlstm.train(tmp_path / "c.txt", tmp_path / "m.npz", settings=settings)
    *_, record = records(training)
    assert record.sample is not None
    shown = record.sample.split("\nThe lamp")
    assert len(shown) == 3
    assert record.sample.startswith("The lamp")
    assert "." not in record.sample
    process = run("sample", "-m", tmp_path / "m.npz", "--rng-seed", "1")
    assert process.stdout.decode().count("The lamp") == 3
    with pytest.raises(charlstm.VocabularyError, match=r"sample\.seed has characters"):
        charlstm.train(tmp_path / "c.txt", settings={**settings, "sample.seed": "가"})


@pytest.mark.parametrize("rng_seed", [-1, "x", 1.5])
def test_a_wrong_rng_seed(model: Path, rng_seed: Any) -> None:
    loaded = charlstm.load(model)
    for ask in (
        lambda: list(loaded.sample("a", rng_seed=rng_seed)),
        lambda: list(loaded.complete(["a"], rng_seed=rng_seed)),
        lambda: list(loaded.sampler(rng_seed=rng_seed).pieces([loaded.seed("a")])),
    ):
        with pytest.raises(UsageError, match=r"rng_seed is .*; give a whole number from 0 up"):
            ask()


def test_other_wrong_numbers(model: Path) -> None:
    loaded = charlstm.load(model)
    for N in (0, -1, 2.5):
        with pytest.raises(UsageError, match=r"N is .*; give a whole number from 1 up"):
            loaded.beam("a", N)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"lags is -1; give a whole number from 0 up"):
        charlstm.gradient_flow(loaded, "a text that is long enough", -1)
