"""What the benchmarks of scored lines share: a model of a text's first nine tenths, and the lines
of its last one, which the model has never seen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import common  # first: one thread each, before NumPy is loaded

import charlstm
from charlstm.api import LanguageModel

CORPORA = Path(common.ROOT) / "corpora"


class Learnt(NamedTuple):
    """A text, learnt in part."""

    model: LanguageModel
    lines: list[str]
    """Those of the rest that are not empty, but not the one that the cut goes through."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--text`, `--models` and how long a model learns."""
    parser.add_argument("--text", type=Path, help="a large English text (tinyshakespeare)")
    parser.add_argument(
        "--models", type=Path, help="a folder that keeps models for the next benchmark"
    )
    parser.add_argument("--steps", type=int, default=5000, help="of training for each, at most")
    parser.add_argument("--workers", type=int, default=min(2, common.cores()))


@contextmanager
def folder(o: argparse.Namespace) -> Iterator[Path]:
    """Where models are: as told, or for the while."""
    if o.models is not None:
        o.models.mkdir(parents=True, exist_ok=True)
        yield o.models
    else:
        with TemporaryDirectory() as name:
            yield Path(name)


def learnt(text: Path, models: Path, o: argparse.Namespace) -> Learnt:
    """A text whose first nine tenths have been learnt, now or before, as `charlstm train` does,
    which holds out the last tenth of these."""
    whole = text.read_text(encoding="utf-8")
    cut = len(whole) * 9 // 10
    path, part = models / f"{text.stem}-{o.steps}.npz", models / f"{text.stem}.part"
    if not path.exists():
        part.write_text(whole[:cut], encoding="utf-8", newline="")
        settings = {"train.steps": o.steps, "train.workers": o.workers}
        for _ in charlstm.train(part, path, settings=settings):
            pass
    lines = whole[cut:].split("\n")[1:]
    return Learnt(charlstm.load(path), [line for line in lines if line])
