"""Lines that do not belong to a text, found by nothing but their bits per character, as
`evaluate --lines` tells them: the area under the ROC curve.

Among held-out lines of a text (2,000, or as many as there are) stand 200 corrupted ones, 50 of each
kind: held-out lines with their characters shuffled, hands on a keyboard, lines of another language
(the Korean story's) and base64 of held-out lines. All but the other language's are as long as a
held-out line. The area is the probability that a corrupted line has more bits per character than a
line of the text (H. Mann, D. Whitney, 1947), exactly, a tie counting half. It is the ratio that is
printed. Since Korean is easily found by its letters, 50 lines of it in Latin ones are told beside.

    python tests/benchmarks/surprise.py --text tinyshakespeare.txt
"""

from __future__ import annotations

import argparse
import base64

import common  # first: one thread each, before NumPy is loaded
import held_out
import numpy as np
from common import Row
from held_out import CORPORA

KEYS = ("qwertyuiop", "asdfghjkl;", "zxcvbnm,./")
"""Where a hand may fall; the next key is near the last."""


INITIALS = "g,kk,n,d,tt,r,m,b,pp,s,ss,,j,jj,ch,k,t,p,h"
VOWELS = "a,ae,ya,yae,eo,e,yeo,ye,o,wa,wae,oe,yo,u,wo,we,wi,yu,eu,ui,i"
FINALS = ",k,k,k,n,n,n,t,l,k,m,p,l,l,p,l,m,p,p,t,t,ng,t,t,k,t,p,t"
"""Letters of Hangul in Latin ones, in the order in which Unicode composes syllables."""


def romanised(text: str) -> str:
    """Korean in Latin letters, syllable by syllable; characters that are neither are left out."""
    initials, vowels, finals = (letters.split(",") for letters in (INITIALS, VOWELS, FINALS))
    written = ""
    for c in text:
        syllable, final = divmod(ord(c) - ord("가"), len(finals))
        if "가" <= c <= "힣":
            initial, vowel = divmod(syllable, len(vowels))
            written += initials[initial] + vowels[vowel] + finals[final]
        elif c.isascii():
            written += c
    return written


def area(corrupted: np.ndarray, usual: np.ndarray) -> float:
    """The share of pairs (N,) x (M,) whose first has more, a tie being half of one."""
    ordered = np.sort(usual)
    below = np.searchsorted(ordered, corrupted, "left")
    not_above = np.searchsorted(ordered, corrupted, "right")
    return float((below + not_above).sum() / 2 / (len(corrupted) * len(usual)))


def typed(n: int, rng: np.random.Generator) -> str:
    """So many keys."""
    y, x, keys = 1, int(rng.integers(10)), ""
    for _ in range(n):
        y = min(max(y + int(rng.integers(-1, 2)), 0), 2)
        x = (x + int(rng.integers(-2, 3))) % 10
        keys += " " if rng.random() < 0.1 else KEYS[y][x]
    return keys


def corrupted(lines: list[str], other: list[str], N: int, seed: int) -> dict[str, list[str]]:
    """N lines of each kind, as long as some of the lines."""
    rng = np.random.default_rng(seed)

    def some() -> list[str]:
        return [lines[k] for k in rng.integers(len(lines), size=N)]

    encoded = [base64.b64encode(line.encode()).decode()[: len(line)] for line in some()]
    return {
        "shuffled characters": ["".join(rng.permutation(list(line))) for line in some()],
        "hands on a keyboard": [typed(len(line), rng) for line in some()],
        "another language": [other[k % len(other)] for k in range(N)],
        "base64": encoded,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    held_out.add_options(parser)
    parser.add_argument("--lines", type=int, default=2000, help="held-out lines, at most")
    parser.add_argument("--corrupted", type=int, default=50, help="lines of each kind")
    parser.add_argument("--rng-seed", type=int, default=0)
    parser.add_argument("--require", type=float, default=0.97, help="least area")
    common.add_json_option(parser)
    o = parser.parse_args()
    source = o.text or CORPORA / "lighthouse.txt"
    rng = np.random.default_rng(o.rng_seed)
    with held_out.folder(o) as models:
        model, lines = held_out.learnt(source, models, o)
    korean = (CORPORA / "ferry.txt").read_text(encoding="utf-8").split("\n")
    chosen = [lines[k] for k in rng.permutation(len(lines))[: o.lines]]
    korean = [line for line in korean if line]
    kinds = corrupted(chosen, korean, o.corrupted, o.rng_seed)

    def bits(of: list[str]) -> np.ndarray:
        return np.array([score.bits_per_unit for score in model.evaluate_lines(of)])

    usual, found = bits(chosen), {kind: bits(of) for kind, of in kinds.items()}
    together = np.concatenate(list(found.values()))
    latin = bits([romanised(line) for line in korean[: o.corrupted]])
    rows = []
    every = {"all kinds": together, **found, "another language, in Latin letters": latin}
    for kind, strange in every.items():
        share = area(strange, usual)
        rows.append(
            Row(
                f"{len(strange)} lines among {len(usual):,} of {source.stem}: {kind}",
                f"area {share:.4f}",
                "required",
                f"{o.require:g}",
                share,
                target=None if strange is latin else o.require,
            )
        )
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
