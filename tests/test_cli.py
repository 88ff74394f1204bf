"""The command line: results, pipelines, errors and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import CORPORA, ROOT, STORY, TINY, fails, run, run_process, wait_for


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the word hello."""
    path = tmp_path_factory.mktemp("models") / "h.npz"
    process = run("train", "-", "-o", path, stdin="hello")
    assert process.returncode == 0, process.stderr
    assert process.stdout == b""
    return path


@pytest.fixture(scope="session")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the Korean story, a few steps old."""
    path = tmp_path_factory.mktemp("models") / "ko.npz"
    process = run("train", CORPORA / "ferry.txt", "-o", path, "--steps", "150", "-q")
    assert process.returncode == 0, process.stderr
    assert process.stderr == b""
    return path


def sampled(model: Path, *arguments: str | Path) -> str:
    process = run("sample", "-m", model, *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout.decode("utf-8")


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


class TestTrain:
    def test_files_and_a_pipe_are_the_same_text(self, tmp_path: Path) -> None:
        text = STORY.read_bytes()
        cut = text.index(b"\n", 30000) + 1
        (tmp_path / "a").write_bytes(text[:cut])
        (tmp_path / "b").write_bytes(text[cut:])
        one, two = tmp_path / "1.npz", tmp_path / "2.npz"
        settings = ("--steps", "5", "-q")
        run("train", tmp_path / "a", tmp_path / "b", "-o", one, *settings)
        run("train", "-o", two, *settings, stdin=text)
        assert one.read_bytes() == two.read_bytes()

    def test_progress_log_and_samples(self, tmp_path: Path) -> None:
        process = run(
            "train",
            CORPORA / "ferry.txt",
            *("-o", "m.npz", "--steps", "120", "--log", "log", "--sample-every", "60"),
            *("--set", "train.eval_every=50", "--set", "model.hidden=16"),
            cwd=tmp_path,
        )
        assert process.returncode == 0
        assert process.stdout == b""
        stderr = process.stderr.decode("utf-8")
        assert stderr.count("--- sample at step") == 2
        assert re.search(
            r"wrote m\.npz after 120 steps.* bits per character.*charlstm sample", stderr
        )
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [line["step"] for line in lines] == [50, 100, 120]
        assert [line["best"] for line in lines] == [True] * 3
        info = json.loads(run("info", "m.npz", "--json", cwd=tmp_path).stdout)
        assert info["trained"]["best_step"] == 120
        assert info["trained"]["best_nats_per_char"] == lines[2]["valid"]
        assert f"({lines[2]['valid']:.4f} nats) at step 120; try" in stderr
        assert lines[1]["train"] < lines[0]["train"]
        assert set(lines[0]) == {
            *("step", "epoch", "chars", "seconds", "train", "valid", "best", "lr", "gradient_norm")
        }

    def test_held_out_text_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "v").write_text("hello hello ")
        short = ("--steps", "2", *TINY)
        process = run("train", "-", "--valid", "v", *short, stdin="hello " * 100, cwd=tmp_path)
        assert process.returncode == 0
        info = json.loads(run("info", "--json", cwd=tmp_path).stdout)
        assert info["trained"]["corpus"]["train"] == 600
        assert info["trained"]["corpus"]["valid"] == 12

    def test_resume_and_force(self, tmp_path: Path) -> None:
        corpus = CORPORA / "ferry.txt"
        run("train", corpus, "--steps", "10", cwd=tmp_path)
        fails(run("train", corpus, cwd=tmp_path), 2, "--resume", "--force", "-o")
        process = run("train", corpus, "--resume", "--steps", "20", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert b"after 20 steps" in process.stderr
        again = run("train", corpus, "--resume", "--steps", "20", cwd=tmp_path)
        assert again.returncode == 0
        assert b"nothing to do" in again.stderr
        assert run("train", corpus, "--force", "--steps", "5", cwd=tmp_path).returncode == 0
        fails(run("train", corpus, "--force", "--resume", cwd=tmp_path), 2, "--resume", "--force")
        fails(run("train", CORPORA / "hello.txt", "--resume", cwd=tmp_path), 2, "not the one")
        fails(
            run("train", corpus, "--resume", "--set", "model.hidden=50", cwd=tmp_path),
            2,
            "model.hidden",
        )

    def test_accepted_changes(self, tmp_path: Path) -> None:
        """Each change is named, and refused or accepted."""
        text = (CORPORA / "ferry.txt").read_text(encoding="utf-8")
        (tmp_path / "a").write_text(text, encoding="utf-8")
        (tmp_path / "b").write_text(text + text[:5000], encoding="utf-8")
        (tmp_path / "c").write_text("another text " * 500, encoding="utf-8")
        run("train", "a", "--steps", "10", cwd=tmp_path)
        resume = ("--resume", "--steps", "20", "--set", "train.rng_seed=5")
        fails(run("train", "a", *resume, cwd=tmp_path), 2, "train.rng_seed", "--accept-changes")
        fails(run("train", "b", *resume[:3], cwd=tmp_path), 2, "not the one", "--accept-changes")
        process = run("train", "b", *resume, "--accept-changes", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert b"train.rng_seed was 0 when the checkpoint was written and is 5" in process.stderr
        assert b"the corpus is not the one" in process.stderr
        fails(run("train", "c", *resume[:3], "--accept-changes", cwd=tmp_path), 2, "its vocabulary")
        hidden = ("--set", "model.hidden=50")
        message = fails(
            run("train", "b", "--resume", "--accept-changes", *hidden, cwd=tmp_path), 2, "hidden"
        )
        assert "(--accept-changes)" not in message
        fails(run("train", "b", "--force", "--accept-changes", cwd=tmp_path), 2, "--resume")

    def test_another_vocabulary_is_refused(self, tmp_path: Path) -> None:
        """However it comes about: by a rarer character, or by another setting for the same text."""
        (tmp_path / "a").write_text("ab c\n" * 400, encoding="utf-8")
        (tmp_path / "b").write_text("ab c\n" * 400 + "z", encoding="utf-8")
        least = ("--set", "text.min_count=2")
        resume = ("--resume", "--steps", "20", "--accept-changes")
        run("train", "a", "-o", "m.npz", "--steps", "10", *least, cwd=tmp_path)
        fails(run("train", "b", "-o", "m.npz", *resume, cwd=tmp_path), 2, "nor is its vocabulary")
        run("train", "b", "-o", "z.npz", "--steps", "10", cwd=tmp_path)
        fails(run("train", "b", "-o", "z.npz", *resume, *least, cwd=tmp_path), 2, "its vocabulary")
        unit = ("--set", "text.unit=byte")
        fails(run("train", "a", "-o", "m.npz", *resume, *unit, cwd=tmp_path), 2, "its vocabulary")

    def test_all_bytes_are_one_vocabulary(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"ab c\n" * 400)
        (tmp_path / "b").write_bytes(b"ab c\n" * 400 + b"\x01")
        run("train", "a", "--steps", "10", "--set", "text.unit=byte", cwd=tmp_path)
        resume = ("--resume", "--steps", "20", "--accept-changes")
        process = run("train", "b", *resume, cwd=tmp_path)
        assert process.returncode == 0, process.stderr

    def test_settings_are_added_to_those_of_the_file(self, tmp_path: Path) -> None:
        """A part of a configuration that only makes sense with the rest of it, which the checkpoint
        has, is no mistake."""
        (tmp_path / "a").write_text("ab c\n" * 400, encoding="utf-8")
        (tmp_path / "part.yaml").write_text("model: {tie: true}\n", encoding="utf-8")
        tied = ("--set", "model.embedding=8", "--set", "model.tie=true")
        run("train", "a", "--steps", "10", *tied, cwd=tmp_path)
        part = ("-c", "part.yaml")
        process = run("train", "a", "--resume", "--steps", "20", *part, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert run("sample", *part, "-n", "5", cwd=tmp_path).returncode == 0
        assert run("evaluate", "a", *part, cwd=tmp_path).returncode == 0
        changed = ("--set", "train.loss=sum", "--steps", "30")
        fails(run("train", "a", "--resume", *changed, cwd=tmp_path), 2, "train.loss is 'mean'")

    def test_max_time(self, tmp_path: Path) -> None:
        process = run("train", STORY, "--max-time", "0.5s", cwd=tmp_path)
        assert process.returncode == 0
        history = json.loads(run("info", "--json", cwd=tmp_path).stdout)
        assert 0 < history["trained"]["steps"] < 900

    @pytest.mark.whole
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
    )
    def test_a_signal_saves_and_stops(self, tmp_path: Path, number: int, code: int) -> None:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "charlstm", "train", str(STORY)),
                *("--epochs", "10000", "--save-every", "5", "--set", "train.patience=null"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # whatever we inherited
        )
        wait_for(tmp_path / "charlstm.npz")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == code
        assert b"Traceback" not in stderr
        steps = json.loads(run("info", "--json", cwd=tmp_path).stdout)["trained"]["steps"]
        assert f"after {steps:,} steps".encode() in stderr

    @pytest.mark.whole
    def test_ctrl_c_while_modules_are_loaded(self, tmp_path: Path) -> None:
        """Nothing has begun that had to be told of."""
        script = (
            "import os, runpy, signal, sys\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "class Interrupt:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'click':\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Interrupt())\n"
            "runpy.run_module('charlstm', run_name='__main__')\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True
        )
        assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGINT, b"", b"")

    def test_divergence(self, tmp_path: Path) -> None:
        """Three returns, each told and logged, then the end."""
        process = run(
            *("train", STORY, "-o", "m.npz", "--steps", "200", *TINY),
            *("--set", "train.lr=1e39", "--set", "train.clip_norm=null"),
            *("--set", "train.optimizer=sgd", "--log", "log"),
            cwd=tmp_path,
        )
        message = fails(process, 4, "diverged at step", "is not finite", "train.lr")
        notices = [line for line in process.stderr.decode().splitlines() if "on from step" in line]
        assert len(notices) == 3
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        back = [line for line in lines if "diverged_at" in line]
        assert len(back) == 3
        for line, told in zip(back, notices, strict=True):
            assert line["step"] == 0
            assert f"step {line['diverged_at']}: {line['not_finite']} is not finite" in told
        assert re.search(r"step \d+: the (loss|gradient|weights|held-out|state)", message)
        assert [path.name for path in tmp_path.iterdir()] == ["log"]

    @pytest.mark.parametrize("limit", [("--steps", "200"), ("--max-time", "20s")])
    def test_losses_far_above_guessing(self, tmp_path: Path, limit: tuple[str, str]) -> None:
        """They are finite, and no success either."""
        process = run(
            *("train", STORY, *limit, "--log", "log"),
            *("--set", "train.lr=100", "--set", "model.hidden=16"),
            cwd=tmp_path,
        )
        fails(process, 4, "diverged at step", "the training loss is", "guessing costs 4.2")
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert "the training loss" in {line.get("far_above_guessing") for line in lines}

    def test_worse_than_guessing(self, tmp_path: Path) -> None:
        """A run too short to say that it diverged is told what it comes to."""
        process = run(
            *("train", STORY, "--steps", "2", "--set", "train.lr=0.5"),
            cwd=tmp_path,
        )
        assert process.returncode == 0
        assert (
            b"that is worse than guessing, which costs 6.0224 bits; train longer" in process.stderr
        )

    def test_divergence_that_a_smaller_step_cures(self, tmp_path: Path) -> None:
        """It is told, it stands in the file, and info shows it."""
        script = (
            "import sys\nfrom charlstm.cli import main\n"
            "from charlstm.training.run import Training\n"
            "do = Training._do_step\n"
            "def step(self, *a):\n"
            "    if self.step == 70 and not self.progress.rollbacks:\n"
            "        self.learner.model.weights['by'][0] = float('nan')\n"
            "    return do(self, *a)\n"
            "Training._do_step = step\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        process = subprocess.run(
            [
                *(sys.executable, "-c", script, "train", str(STORY)),
                *("--steps", "110", "--set", "train.eval_every=50", "--log", "log", *TINY),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        assert process.stderr.count(b"training diverged at step 70: the weights by") == 1
        info = json.loads(run("info", "--json", cwd=tmp_path).stdout)
        assert info["trained"]["rollbacks"] == [[70, "the weights by", 50]]
        assert "step 70: the weights by" in run("info", cwd=tmp_path).stdout.decode()
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [line["step"] for line in lines] == [50, 50, 100, 110]
        assert lines[1] == {"step": 50, "diverged_at": 70, "not_finite": "the weights by"}
        assert (lines[0]["lr"], lines[2]["lr"]) == (0.1, 0.05)


@pytest.mark.whole
class TestPipes:
    """Nothing but results on stdout, no traceback when a reader leaves."""

    def test_the_reader_leaves(self, korean: Path) -> None:
        command = f"{sys.executable} -m charlstm sample -m {korean} -n 100000 | head -c 10"
        process = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
        assert len(process.stdout) == 10
        assert process.stderr == b""
        assert process.returncode == 141

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    @pytest.mark.parametrize("arguments", [["sample"], ["info"], ["--help"], ["evaluate", "-"]])
    def test_a_full_output(self, hello: Path, arguments: list[str]) -> None:
        with Path("/dev/full").open("w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "charlstm", *arguments],
                input=b"hello",
                stdout=full,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "CHARLSTM_MODEL": str(hello)},
                timeout=60,
            )
        assert process.returncode == 6, process.stderr
        assert process.stderr.count(b"\n") == 1
        assert b"Traceback" not in process.stderr

    @pytest.mark.parametrize("redirect", [">&-", "2>&-", "2>/dev/full"])
    def test_closed_streams(self, hello: Path, tmp_path: Path, redirect: str) -> None:
        """A closed stdout is an error of the command that writes there; stderr can go missing."""
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        base = f"{sys.executable} -m charlstm"
        train = f"printf hello | {base} train - -o {tmp_path}/m.npz --steps 2 {redirect}"
        assert subprocess.run(["bash", "-c", train], env=env, timeout=60).returncode == 0
        sample = f"{base} sample -m {hello} --seed hell -t 0 -n 1 {redirect}"
        process = subprocess.run(["bash", "-c", sample], env=env, capture_output=True, timeout=60)
        if redirect == ">&-":
            assert process.returncode == 6
            assert process.stderr.count(b"\n") == 1
        else:
            assert (process.returncode, process.stdout) == (0, b"hello\n")

    @pytest.mark.parametrize(
        "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}]
    )
    def test_utf8_whatever_the_locale(self, korean: Path, locale: dict[str, str]) -> None:
        process = run_process("sample", "-m", korean, "--seed", "억수", "-n", "20", env=locale)
        assert process.returncode == 0, process.stderr
        text = process.stdout.decode("utf-8")
        assert text.startswith("억수")
        assert len(text) == 23
        evaluated = run_process("evaluate", "-", "-m", korean, stdin="나루터에서", env=locale)
        assert evaluated.returncode == 0


class TestBadInput:
    """One clear line and the right exit code."""

    def test_a_missing_file(self, tmp_path: Path) -> None:
        fails(run("train", "missing.txt", cwd=tmp_path), 2, "missing.txt", "no such file")
        fails(run("sample", cwd=tmp_path), 2, "charlstm.npz", "charlstm train")
        fails(run("evaluate", "-", cwd=tmp_path), 2, "charlstm.npz")
        fails(run("info", "x.npz", cwd=tmp_path), 2, "x.npz")

    def test_a_directory(self, tmp_path: Path, hello: Path) -> None:
        fails(run("train", tmp_path, cwd=tmp_path), 3, "is a directory")
        fails(run("evaluate", tmp_path, "-m", hello), 3, "is a directory")
        fails(run("sample", "-m", tmp_path), 3, "is a directory")
        fails(run("train", CORPORA / "hello.txt", "-o", tmp_path, "--force"), 2, "is a directory")

    def test_an_output_that_cannot_be_written(self, tmp_path: Path) -> None:
        output = tmp_path / "no" / "m.npz"
        fails(run("train", CORPORA / "hello.txt", "-o", output), 6, "cannot be written")
        log = tmp_path / "no" / "log"
        fails(run("train", CORPORA / "hello.txt", "-o", tmp_path / "m.npz", "--log", log), 6, "log")

    def test_an_empty_corpus(self, tmp_path: Path, hello: Path) -> None:
        fails(run("train", "-", cwd=tmp_path), 3, "empty")
        fails(run("train", "-", cwd=tmp_path, stdin="x"), 3, "one character")
        fails(run("evaluate", "-", "-m", hello), 3, "at least two")

    def test_invalid_utf8_names_the_byte(self, tmp_path: Path) -> None:
        fails(run("train", "-", cwd=tmp_path, stdin=b"abc\xff"), 3, "byte 3", "utf-8")
        process = run(
            *("train", "-", "--set", "text.encoding=latin-1", "--steps", "2"),
            cwd=tmp_path,
            stdin=b"abc\xff" * 20,
        )
        assert process.returncode == 0

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--set", "model.hiden=5"], ["model.hiden", "model.hidden"]),
            (["--set", "model.hidden=-5"], ["model.hidden", "from 1", "-5"]),
            (["--set", "train.lr=no"], ["train.lr", "number"]),
            (["--set", "hidden=5"], ["model.hidden"]),
            (["--set", "nonsense"], ["KEY=VALUE"]),
            (["-c", "mujon"], ["mujeong"]),
            (["--steps", "0"], ["--steps", "from 1"]),
            (["--max-time", "60"], ["--max-time", "90s"]),
            (["--nonsense"], ["--nonsense"]),
        ],
    )
    def test_wrong_settings(self, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
        fails(run("train", CORPORA / "hello.txt", *arguments, cwd=tmp_path), 2, *parts)
        assert not list(tmp_path.iterdir())

    def test_a_wrong_configuration_file_names_the_line(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("model:\n  cell: lstm\n  hidden: many\n")
        fails(
            run("train", CORPORA / "hello.txt", "-c", "c.yaml", cwd=tmp_path),
            2,
            "c.yaml:3",
            "model.hidden",
            "many",
        )

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["-t", "-1"], ["--temperature", "from 0", "-1"]),
            (["-t", "nan"], ["--temperature"]),
            (["--top-p", "0"], ["--top-p"]),
            (["-n", "-1"], ["--length"]),
            (["--seed", "hexl"], ["'x'", "position 2", "--unknown skip"]),
            (["--seed", "h", "--seed-file", "f"], ["give one"]),
        ],
    )
    def test_wrong_sampling(self, hello: Path, arguments: list[str], parts: list[str]) -> None:
        process = run("sample", "-m", hello, *arguments)
        fails(process, 2, *parts)
        assert process.stdout == b""

    def test_not_a_checkpoint(self, tmp_path: Path, hello: Path) -> None:
        (tmp_path / "text").write_text("hello")
        (tmp_path / "cut").write_bytes(hello.read_bytes()[:-100])
        (tmp_path / "empty").write_bytes(b"")
        for name in ("text", "cut", "empty"):
            for command in (["sample", "-m"], ["info"], ["evaluate", "-", "-m"]):
                fails(run(*command, name, cwd=tmp_path), 3, name, "checkpoint")

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        process = run_process("info", "x.npz", "--debug", cwd=tmp_path)
        assert process.returncode == 1
        assert b"Traceback" in process.stderr


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
