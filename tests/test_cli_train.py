"""charlstm train: files, limits, resuming, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from support import CORPORA, ROOT, STORY, TINY, fails, run, wait_for


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
        assert [line["step"] for line in lines if "sample" in line] == [60, 120]
        lines = [line for line in lines if line["valid"] is not None]
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
