"""How fast a model writes in the page that `export --to html` makes, in a headless Chromium, beside
`sample` in NumPy: characters a second, one by one, each drawn; and how far its probabilities are
from NumPy's. The weights are random.

    python tests/benchmarks/page_speed.py --require 200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row

sys.path.insert(0, str(Path(common.ROOT) / "tests"))
from browser import computed, windows
from support import STORY, language_of

from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.sampler import Sampler
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.report.alive import alive_page
from charlstm.report.surprise import probabilities
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

SIZES: dict[str, list[tuple[int, ...]]] = {
    "lstm": [(100,), (128, 128), (512, 512)],
    "gru": [(100,)],
    "rnn": [(100,)],
}
"""Widths of the layers, by cell."""

WRITE = """(n) => {
    const { alive } = JSON.parse(document.getElementById("data").textContent).sections;
    const network = new Network(alive);
    const write = (count) => {
        const begun = performance.now();
        for (let k = 0; k < count; k++) {
            network.step(draw(softmax(network.logits, 0.8), Math.random()));
        }
        return (1000 * count) / (performance.now() - begun);
    };
    write(n / 4);
    return [write(n), write(n), write(n)];
}"""
"""Characters a second, three times."""


READ = """(ids) => {
    const { alive } = JSON.parse(document.getElementById("data").textContent).sections;
    const network = new Network(alive);
    return ids.map((id) => { network.step(id); return [...softmax(network.logits)]; });
}"""
"""The probabilities after each of some ids."""

ALLOWED = 1e-5
"""Difference of a probability from NumPy's."""


def difference(page: Any, model: Model, ids: list[int]) -> float:
    """The largest difference of a probability in the page from NumPy's."""
    expected = probabilities(model, Stepper(model, 1).read(np.array(ids)))
    return float(np.abs(np.array(computed(page, READ, ids)) - expected).max())


def in_numpy(model: Model, vocabulary: Vocabulary, n: int) -> list[float]:
    """The same by `sample`."""
    sampler = Sampler(model, vocabulary, 1, Sampling(length=n))
    seed = Seed(np.array([0]), vocabulary.units[0])
    rates = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in sampler.pieces([seed]):
            pass
        rates.append(n / (time.perf_counter() - begun))
    return rates


def rows(window: Any, n: int, required: float) -> Iterator[Row]:
    text = STORY.read_text(encoding="utf-8")
    vocabulary = Corpus.from_text(text, 0.0).vocabulary
    ids = vocabulary.encode(text[:200]).tolist()
    for cell, sizes in SIZES.items():
        for widths in sizes:
            model = Model(Shape(cell, len(vocabulary), widths, len(widths)), np.float32)
            model.initialise(np.random.default_rng(0))
            count = n if max(widths) <= 128 else n // 10
            html = alive_page(language_of(model, vocabulary), lang="en", title=cell)
            page = window.open(html)
            ours = computed(page, WRITE, count)
            theirs = in_numpy(model, vocabulary, count)
            what = f"{cell} {' + '.join(map(str, widths))}, {len(html) / 1e6:.1f} MB"
            ours_shown, theirs_shown = (
                f"{max(rates):,.0f} characters/s" for rates in (ours, theirs)
            )
            if widths == (100,):  # the size that is promised
                yield Row(
                    what, ours_shown, "required", f"{required:g}", max(ours) / required, target=1
                )
            apart = difference(page, model, ids)
            shown = f"{apart:.1e} from NumPy"
            yield Row(
                what, shown, "allowed", f"{ALLOWED:.0e}", ALLOWED / max(apart, 1e-12), target=1
            )
            ratios = max(ours) / max(theirs), median(ours) / median(theirs)
            yield Row(what, ours_shown, "NumPy", theirs_shown, *ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--characters", type=int, default=2000, help="written at a time")
    parser.add_argument("--require", type=float, default=200.0, help="characters a second")
    common.add_json_option(parser)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, windows(Path(folder)) as window:
        return common.report(list(rows(window, o.characters, o.require)), o.json)


if __name__ == "__main__":
    sys.exit(main())
