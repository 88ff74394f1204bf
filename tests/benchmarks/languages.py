"""Which of two texts a line is from, told by two models: those that give it the fewest bits, as
`evaluate --lines -m a -m b` does. All lines are held out; what is outside a model's vocabulary
costs what it costs there.

The two shipped stories, Korean and English, are to be told apart without a mistake; with `--text`
also another English text from the English story, by lines of 20 characters or more. The ratio is
the share of the lines that are told right.

    python tests/benchmarks/languages.py --text tinyshakespeare.txt
"""

from __future__ import annotations

import argparse

import common  # first: one thread each, before NumPy is loaded
import held_out
from common import Row
from held_out import CORPORA, Learnt

LEAST = 20
"""Characters of a line that two texts of one language are told apart by."""


def told(one: Learnt, other: Learnt, least: int = 1) -> tuple[list[bool], list[bool]]:
    """Of each text's lines of so many characters or more, whether it is told right."""
    models = (one.model, other.model)
    found = []
    for own, text in enumerate((one, other)):
        lines = [line for line in text.lines if len(line) >= least]
        bits = [[score.bits for score in model.evaluate_lines(lines)] for model in models]
        found.append([a < b for a, b in zip(bits[own], bits[1 - own], strict=True)])
    return found[0], found[1]


def row(names: tuple[str, str], right: tuple[list[bool], list[bool]], target: float) -> Row:
    """One comparison."""
    both = right[0] + right[1]
    each = "; ".join(
        f"{sum(lines):,} of {len(lines):,} {name}" for name, lines in zip(names, right, strict=True)
    )
    share = sum(both) / len(both)
    return Row(
        f"lines told apart: {names[0]} and {names[1]}",
        f"{share:.2%} ({each})",
        "required",
        f"{target:.0%}",
        share,
        target=target,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    held_out.add_options(parser)
    parser.add_argument("--require", type=float, default=1.0, help="least share for two languages")
    parser.add_argument("--require-text", type=float, default=0.9, help="least share for --text")
    common.add_json_option(parser)
    o = parser.parse_args()
    with held_out.folder(o) as models:
        english, korean = (
            held_out.learnt(CORPORA / name, models, o) for name in ("lighthouse.txt", "ferry.txt")
        )
        rows = [row(("English", "Korean"), told(english, korean), o.require)]
        if o.text is not None:
            text = held_out.learnt(o.text, models, o)
            right = told(text, english, LEAST)
            rows.append(row((o.text.stem, "the English story"), right, o.require_text))
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
