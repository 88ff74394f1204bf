"""Whether two commits compute the same bits.

    python tests/same_bits.py COMMIT [OTHER]

Lays both out in folders of their own (OTHER is the working tree where it is not given), has each
train the same twelve models, score a text with them and sample from them, and compares what they
print and, of their files, every array. Exits with 1 where anything differs.

The twelve: three cells; characters, bytes and words; one layer and two; dropout; tied and
projected output; two shards; Adam with an average; a run that is resumed halfway.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

COMMON = ["model.hidden=20"]
RUNS = {
    "lstm, characters": [],
    "gru, characters, Adam": ["model.cell=gru", "train.optimizer=adam", "train.lr=0.003"],
    "rnn, characters, dropout": ["model.cell=rnn", "model.dropout=0.3"],
    "lstm, bytes, two layers": ["text.unit=byte", "model.layers=2"],
    "gru, bytes, two layers, dropout": [
        *("model.cell=gru", "text.unit=byte", "model.layers=2", "model.dropout=0.2"),
    ],
    "rnn, words, embedding": ["model.cell=rnn", "text.unit=word", "model.embedding=12"],
    "lstm, words, tied": ["text.unit=word", "model.embedding=20", "model.tie=true"],
    "lstm, projected": ["model.embedding=12", "model.tie=true", "model.dropout=0.2"],
    "lstm, two shards": ["train.shards=2", "train.batch=8"],
    "lstm, two shards, two layers, tied": [
        *("train.shards=2", "train.batch=8", "model.layers=2"),
        *("model.tie=true", "model.embedding=20"),
    ],
    "lstm, Adam, average": ["train.optimizer=adam", "train.lr=0.005", "train.average=0.99"],
    "lstm, resumed": [],
}
"""The runs, by name, with their settings."""

SAMPLES = [
    *("--seed The -n 80", "--seed The -n 40 --count 5", "-n 60 --json --count 2", "-n 60 -t 0"),
    *(
        "--seed a -n 60 --top-k 3",
        "--seed a -n 60 --top-p 0.8",
    ),
    *("--seed a -n 40 --stop e --count 3", "-n 20 --count 3 --best-of 3", "-n 20 --unique"),
    "--seed a -n 30 --match [a-z]{5,20} --count 3",
]


def charlstm(tree: Path, folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """What a command of a tree prints on both streams."""
    command = [sys.executable, "-m", "charlstm", *arguments]
    env = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=folder, env=env, input=stdin, capture_output=True)
    return b"%d\n%b\n%b" % (done.returncode, done.stdout, done.stderr)


def outputs(tree: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """What a tree makes, by name."""
    text = (ROOT / "corpora" / "lighthouse.txt").read_text(encoding="utf-8")
    (folder / "c.txt").write_text(text[:12_000], encoding="utf-8")
    for name, settings in RUNS.items():
        options = [part for one in [*COMMON, *settings] for part in ("--set", one)]
        train = ["train", "c.txt", "-o", "m.npz", "-q", *options]
        halves = [["--steps", "30"], ["--steps", "60", "--resume"]]
        for limits in halves if "resumed" in name else [["--steps", "60", "--force"]]:
            yield f"{name}: {' '.join(limits)}", charlstm(tree, folder, *train, *limits)
        with zipfile.ZipFile(io.BytesIO((folder / "m.npz").read_bytes())) as file:
            for member in file.namelist():
                if member not in ("metadata.npy", "sha256.npy"):  # they name the versions
                    yield f"{name}: {member}", file.read(member)
        for options in (["--json"], ["--lines"]):
            yield (
                f"{name}: {options[0]}",
                charlstm(tree, folder, "evaluate", "c.txt", "-m", "m.npz", *options),
            )
        for options in map(str.split, SAMPLES):
            command = ["sample", "-m", "m.npz", "--rng-seed", "3", *options]
            yield f"{name}: {' '.join(options)}", charlstm(tree, folder, *command)
        beam = ["sample", "-m", "m.npz", "--seed", "a", "-n", "20", "--beam", "3"]
        yield f"{name}: --beam", charlstm(tree, folder, *beam)
        command = ["sample", "-m", "m.npz", "--rng-seed", "3", "-n", "30", "--each"]
        yield f"{name}: --each", charlstm(tree, folder, *command, stdin=b"The\nlamp \n\nsea\n")
        (folder / "m.npz").unlink()


def main() -> int:
    """Compare two trees."""
    if len(sys.argv) not in (2, 3):
        print(__doc__)
        return 2
    made = []
    with tempfile.TemporaryDirectory() as name:
        for n, commit in enumerate([*sys.argv[1:], None][:2]):
            tree, folder = Path(name, f"tree{n}"), Path(name, f"work{n}")
            tree.mkdir()
            folder.mkdir()
            if commit is None:
                tree = ROOT
            else:
                archive = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
                tar = subprocess.run(archive, check=True, capture_output=True).stdout
                subprocess.run(["tar", "-x", "-C", str(tree)], input=tar, check=True)
            made.append(dict(outputs(tree, folder)))
    before, after = made
    different = [name for name in before | after if before.get(name) != after.get(name)]
    for name in different:
        print(f"different: {name}")
    print(f"{len(before | after)} compared, {len(different)} different")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
