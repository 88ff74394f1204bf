"""The commands, from the first word to the scores of a text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from support import CORPORA, ROOT, STORY, TINY, fails, run, run_process, sampled


class TestHello:
    """The smallest main job."""

    def test_prints_hello(self, hello: Path) -> None:
        process = run_process("sample", "-m", hello, "--seed", "hell", "-t", "0", "-n", "1")
        assert (process.returncode, process.stdout, process.stderr) == (0, b"hello\n", b"")

    @pytest.mark.parametrize("alias", ["--prime", "--prompt"])
    def test_the_seeds_other_names(self, hello: Path, alias: str) -> None:
        assert sampled(hello, alias, "hell", "-t", "0", "-n", "1") == "hello\n"

    def test_a_seed_from_a_file_and_from_standard_input(self, hello: Path, tmp_path: Path) -> None:
        (tmp_path / "seed").write_text("hell")
        assert sampled(hello, "--seed-file", tmp_path / "seed", "-t", "0", "-n", "1") == "hello\n"
        process = run("sample", "-m", hello, "--seed-file", "-", "-t", "0", "-n", "1", stdin="hell")
        assert process.stdout == b"hello\n"

    def test_no_echo_length_stop_and_count(self, hello: Path) -> None:
        assert sampled(hello, "--seed", "hell", "-t", "0", "-n", "1", "--no-echo") == "o\n"
        assert sampled(hello, "--seed", "hell", "-n", "0") == "hell\n"
        assert sampled(hello, "--seed", "h", "-t", "0", "--stop", "o") == "hell\n"
        assert sampled(hello, "--seed", "h", "-t", "0", "-n", "4", "--count", "3") == "hello\n" * 3
        text = sampled(
            hello, "--seed", "h", "-t", "0", "-n", "4", "--count", "2", "--separator", r"|\t"
        )
        assert text == "hello|\thello\n"

    def test_json(self, hello: Path) -> None:
        text = sampled(hello, "--seed", "hell", "-t", "0", "-n", "9", "--stop", "ll", "--json")
        document = json.loads(text)
        assert document["seed"] == "hell"
        assert document["text"] == "ohe"
        assert document["stop"] == "stop"
        assert 0.0 < document["nats"] < 3.0

    def test_the_same_number_the_same_text(self, korean: Path) -> None:
        one, two, other = (
            sampled(korean, "--rng-seed", n, "-n", "80", "-t", "1") for n in ("1", "1", "2")
        )
        assert one == two != other

    def test_skipping_what_is_not_known(self, hello: Path) -> None:
        process = run(
            "sample", "-m", hello, "--seed", "h!e?ll", "--unknown", "skip", "-t", "0", "-n", "1"
        )
        assert process.stdout == b"hello\n"
        assert b"skipped 2 characters" in process.stderr

    def test_a_number_as_seed_gets_a_hint(self, tmp_path: Path) -> None:
        run("train", "-", "--steps", "2", *TINY, stdin="1234512345", cwd=tmp_path)
        process = run("sample", "--seed", "12", "-n", "3", cwd=tmp_path)
        assert process.returncode == 0
        assert b"--rng-seed 12" in process.stderr

    def test_the_model_that_the_environment_names(self, hello: Path, tmp_path: Path) -> None:
        process = run("info", cwd=tmp_path, env={"CHARLSTM_MODEL": str(hello)})
        assert str(hello) in process.stdout.decode()


class TestEvaluateAndInfo:
    def test_evaluate_plain_and_json_agree(self, hello: Path, tmp_path: Path) -> None:
        (tmp_path / "t").write_text("hello!hello")
        plain = run("evaluate", tmp_path / "t", "-m", hello).stdout.decode()
        document = json.loads(run("evaluate", tmp_path / "t", "-m", hello, "--json").stdout)
        numbers = [float(line.split()[-1]) for line in plain.splitlines()]
        assert numbers == pytest.approx(
            [
                document[k]
                for k in (
                    "nats_per_char",
                    "bits_per_char",
                    "perplexity",
                    "characters",
                    "unknown",
                )
            ],
            abs=1e-4,
        )
        assert document["characters"] == 10
        assert document["unknown"] == 1

    def test_evaluate_from_a_pipe_and_of_several_files(self, korean: Path, tmp_path: Path) -> None:
        text = (CORPORA / "ferry.txt").read_bytes()[-3000:].decode("utf-8", "ignore")
        (tmp_path / "a").write_text(text[:500], encoding="utf-8")
        (tmp_path / "b").write_text(text[500:], encoding="utf-8")
        files = run("evaluate", tmp_path / "a", tmp_path / "b", "-m", korean).stdout
        assert files == run("evaluate", "-", "-m", korean, stdin=text).stdout
        assert files == run("evaluate", "-m", korean, stdin=text).stdout

    def test_info(self, korean: Path) -> None:
        plain = run("info", korean).stdout.decode("utf-8")
        document = json.loads(run("info", "-m", korean, "--json").stdout)
        assert document["trained"]["steps"] == 150
        assert document["config"]["model"]["hidden"] == 100
        assert len(document["sha256"]) == 64
        assert document["sha256"] in plain
        assert document["bytes"] == korean.stat().st_size
        assert "가" in document["vocabulary"]

    def test_verify(self, korean: Path, tmp_path: Path) -> None:
        """Whole or not, and of that text or not: 0 or 3."""
        digest = json.loads(run("info", korean, "--json").stdout)["sha256"]
        fails(run("info", korean, "-m", "other.npz"), 2, "two models", "-m other.npz; name one")
        process = run("info", korean, "--verify")
        assert process.stdout.decode() == f"{korean}: whole, sha256 {digest}\n"
        text = (CORPORA / "ferry.txt").read_bytes()
        cut = text.index(b"\n", 3000) + 1
        (tmp_path / "1").write_bytes(text[:cut])
        (tmp_path / "2").write_bytes(text[cut:])
        parts = ("--corpus", tmp_path / "1", "--corpus", tmp_path / "2")
        for corpus in (("--corpus", CORPORA / "ferry.txt"), parts):
            process = run("info", korean, "--verify", *corpus)
            assert process.returncode == 0, process.stderr
            assert process.stdout.decode().endswith("\ntrained on this text\n")
        document = json.loads(run("info", korean, "--verify", *parts, "--json").stdout)
        assert document == {"file": str(korean), "sha256": digest, "whole": True, "corpus": True}
        wrong = run("info", korean, "--verify", *parts[:2])
        fails(wrong, 3, str(korean), "not trained on this text")
        assert wrong.stdout == b""
        damaged = bytearray(korean.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (tmp_path / "d.npz").write_bytes(damaged)
        fails(run("info", tmp_path / "d.npz", "--verify"), 3, "not what was written")
        fails(run("info", korean, "--corpus", tmp_path / "1"), 2, "--verify")
        fails(run("info", korean, "--verify", "--valid", tmp_path / "1"), 2, "--corpus")
        fails(run("info", tmp_path / "no.npz", "--verify"), 2, "no such checkpoint")

    def test_verify_with_held_out_text_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "v").write_text("hello hello ")
        (tmp_path / "c").write_text("hello " * 100)
        run("train", "c", "--valid", "v", "--steps", "3", cwd=tmp_path)
        verify = ("info", "--verify", "--corpus", "c")
        assert run(*verify, "--valid", "v", cwd=tmp_path).returncode == 0
        fails(run(*verify, cwd=tmp_path), 3, "not trained on this text")


def test_help_does_not_load_numpy() -> None:
    """What --help needs is click and the standard library (and yaml, for the settings)."""
    code = (
        "import sys; from charlstm.cli import main; main(['--help']); "
        "print(sorted({'numpy', 'tqdm'} & set(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert process.stderr == b"[]\n"
    assert b"evaluate" in process.stdout


def test_a_file_that_the_installation_lacks_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; from charlstm.config import bundle; bundle.folder = lambda: 'gone'; "
        f"from charlstm.cli import main; sys.exit(main(['train', {str(STORY)!r}]))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        timeout=60,
    )
    fails(process, 6, "gone: No such file or directory")


def test_version() -> None:
    assert re.fullmatch(rb"charlstm \d+\.\d+\.\d+\n", run("--version").stdout)


UNITS = {"char": "characters", "byte": "bytes", "word": "words"}


@pytest.fixture(scope="session", params=list(UNITS))
def of_unit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the English story over units of each kind, a few steps old, in a folder that has
    the log and what was said, too."""
    folder = tmp_path_factory.mktemp(request.param)
    process = run(
        *("train", STORY, "-o", folder / "m.npz", "--log", folder / "log"),
        *("--steps", "40", "--set", f"text.unit={request.param}", "--set", "train.eval_every=20"),
        *("--set", "text.normalize=nfc"),
    )
    assert process.returncode == 0, process.stderr
    (folder / "said").write_bytes(process.stderr)
    return folder


class TestUnits:
    """Characters, bytes and words are trained on, sampled, scored and named alike."""

    def test_what_is_said(self, of_unit: Path) -> None:
        unit = of_unit.name.rstrip("0123456789")
        units = UNITS[unit]
        said = (of_unit / "said").read_text(encoding="utf-8")
        assert f"bits per {units[:-1]} (" in said
        assert f"{units} to train on" in said
        line = json.loads((of_unit / "log").read_text().splitlines()[0])
        assert line[f"{unit}s"] > 0
        assert f"bits per {units[:-1]} (" in run("info", of_unit / "m.npz").stdout.decode()
        document = json.loads(run("info", of_unit / "m.npz", "--json").stdout)
        assert document["unit"] == document["config"]["text"]["unit"] == unit
        assert document["trained"][units] > 0
        assert document["trained"][f"best_nats_per_{unit}"] > 0
        listed = document["vocabulary"]
        assert {"char": "L", "byte": ord("L"), "word": "lamp"}[unit] in listed

    def test_scores(self, of_unit: Path) -> None:
        unit = of_unit.name.rstrip("0123456789")
        text = "The lamp 한 went\nout"
        plain = run("evaluate", "-", "-m", of_unit / "m.npz", stdin=text).stdout.decode()
        document = json.loads(run("evaluate", "-m", of_unit / "m.npz", "--json", stdin=text).stdout)
        expected = {"char": (18, 1), "byte": (20, 0), "word": (5, 1)}[unit]
        assert (document[UNITS[unit]], document["unknown"]) == expected
        keys = [f"nats_per_{unit}", f"bits_per_{unit}", "perplexity", UNITS[unit], "unknown"]
        rows = plain.splitlines()
        assert [float(row.split()[-1]) for row in rows] == pytest.approx(
            [document[key] for key in keys], abs=1e-4
        )
        assert ("word perplexity" in plain) == (unit == "word")
        assert f"{UNITS[unit]} scored" in plain
        fails(run("evaluate", "-", "-m", of_unit / "m.npz", stdin="x"), 3, "at least two")

    def test_samples(self, of_unit: Path) -> None:
        unit, model = of_unit.name.rstrip("0123456789"), of_unit / "m.npz"
        text = sampled(model, "--seed", "The lamp", "-n", "30", "--rng-seed", "2", "-t", "0.5")
        assert text.startswith("The lamp")
        continued = text.removeprefix("The lamp")[:-1]
        if unit == "word":
            assert continued.startswith((" ", "\n"))
            assert len(continued.replace("\n", " <eos> ").split()) == 30
        else:
            assert len(continued) == 30
        same = ("--seed", "The lamp", "-n", "30", "--rng-seed", "2", "-t", "0.5")
        assert sampled(model, *same, "--no-echo") == continued + "\n"
        stop = continued[9:12]
        stopped = sampled(model, *same, "--stop", stop.replace("\n", "\\n"))
        assert stopped == "The lamp" + continued[: continued.index(stop)] + "\n"
        (line,) = sampled(model, *same, "--json").splitlines()
        assert json.loads(line)["text"] == continued
        greedy = ("--seed", "The lamp", "-n", "12", "-t", "0", "--no-echo")
        three = sampled(model, *greedy, "--count", "3", "--separator", "|")[:-1].split("|")
        assert three == [sampled(model, *greedy)[:-1]] * 3
        assert sampled(model, *greedy[:4], "--top-k", "1", "--no-echo")[:-1] == three[0]
        unseeded = run("sample", "-m", model, "-n", "5", "-t", "0.5", "--rng-seed", "1")
        assert unseeded.returncode == 0
        assert not unseeded.stdout.startswith(b" ")

    def test_resume(self, of_unit: Path, tmp_path: Path) -> None:
        """Half and half are the whole, bit for bit."""
        unit = of_unit.name.rstrip("0123456789")
        common = ("train", STORY, "-q", "-o")
        sets = ("--set", f"text.unit={unit}", "--set", "text.max_vocabulary=50")
        run(*common, tmp_path / "whole", *sets, "--steps", "30")
        run(*common, tmp_path / "parts", *sets, "--steps", "15")
        process = run(*common, tmp_path / "parts", "--resume", "--steps", "30")
        assert process.returncode == 0, process.stderr
        with np.load(tmp_path / "whole") as whole, np.load(tmp_path / "parts") as parts:
            assert whole.files == parts.files
            for name in whole.files:
                assert whole[name].tobytes() == parts[name].tobytes(), name

    def test_bytes_go_in_and_out(self, tmp_path: Path) -> None:
        """Whatever a file holds is learnt, and comes out as it is; in JSON it is replaced."""
        data = b"\xff\xfe\x00\xea\xb0\x80\xb0\xa1\n" * 30
        process = run(
            *("train", "-", "-o", "m.npz", "--steps", "400", "--set", "text.unit=byte"),
            *("--set", "text.valid=0"),
            stdin=data,
            cwd=tmp_path,
        )
        assert process.returncode == 0, process.stderr
        (tmp_path / "seed").write_bytes(data[:12])
        sample = ("sample", "-m", "m.npz", "--seed-file", "seed", "-t", "0", "-n", "24")
        assert run(*sample, cwd=tmp_path).stdout == data[:36] + b"\n"
        (line,) = run(*sample, "--json", cwd=tmp_path).stdout.decode("utf-8").splitlines()
        document = json.loads(line)
        assert document["seed"] == data[:12].decode("utf-8", "replace")
        assert "가" in document["text"]
        other = run("evaluate", "-", "-m", "m.npz", "--json", stdin=data, cwd=tmp_path)
        assert json.loads(other.stdout)["nats_per_byte"] < 0.5

    def test_words_outside(self, tmp_path: Path) -> None:
        (tmp_path / "t").write_text("the sea and the ferry\n" * 60 + "once")
        settings = ("--set", "text.unit=word", "--set", "text.min_count=2")
        process = run("train", "t", "--steps", "20", *settings, cwd=tmp_path)
        assert b"1 of 6 words are left out" in process.stderr
        fails(
            run("sample", "--seed", "the oar once", cwd=tmp_path),
            2,
            *("words outside", "'oar' at position 1", "'once' at position 2", "--unknown skip"),
        )
        skipped = run("sample", "--seed", "the oar sea", "--unknown", "skip", cwd=tmp_path)
        assert b"skipped 1 word of the seed" in skipped.stderr
        assert skipped.stdout.startswith(b"the sea")
        known = run("sample", "--seed", "the <unk> sea", "-n", "200", "-t", "2", cwd=tmp_path)
        assert known.stdout.count(b"<unk>") == 1
        shown = run("info", cwd=tmp_path).stdout.decode()
        assert '6 words: "<unk> <eos> the and ferry sea"' in shown

    def test_a_decomposed_text_is_the_composed_one(self, tmp_path: Path) -> None:
        text = "은여울 나루, 억수\n" * 80
        decomposed = unicodedata.normalize("NFD", text)
        for name, each in (("a", text), ("b", decomposed)):
            settings = ("--steps", "5", "-q", "--set", "text.normalize=nfc")
            run("train", "-", "-o", name, *settings, stdin=each, cwd=tmp_path)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        for command in (["evaluate", "-"], ["sample", "--seed-file", "-", "-t", "0"]):
            one, two = (run(*command, "-m", "a", stdin=t, cwd=tmp_path) for t in (text, decomposed))
            assert one.returncode == 0, one.stderr
            assert one.stdout == two.stdout
        stopped = ("sample", "-m", "a", "--seed", "은", "-n", "400", "-t", "2", "--no-echo")
        stop = ("--stop", unicodedata.normalize("NFD", "나"))
        assert "나" not in run(*stopped, *stop, "--rng-seed", "1", cwd=tmp_path).stdout.decode()
        assert "나" in run(*stopped, "--rng-seed", "1", cwd=tmp_path).stdout.decode()
