r"""The embedded Reber grammar: lines whose last symbol but one repeats their second.

    python corpora/reber.py -n 20000 --seed 1 > reber.txt

A. Reber (1967) had people learn the strings that this automaton emits on its way from 0 to 7, a
symbol an arc; where two arcs leave a state, each is taken with probability 1/2:

                   S
                  .-.
                  v |
              .-->(2)------->(4)----------.
            T |        X    / ^     S     |
        B     |           /   |           v   E
    (0)----->(1)      X /     | P        (6)---->(7)
              |       /       |           ^
            P |     v         |           |
              '-->(3)------->(5)----------'
                  ^ |  V            V
                  '-'
                   T

To embed a string R of it is to write B T R T E or B P R P E, T and P alike probable (S. Fahlman,
1991; S. Hochreiter and J. Schmidhuber, 1997). Inside R two symbols of what was read tell what may
follow; the second symbol of the line must be remembered through the whole of R, in which T and P
occur as well. With `inner` = K there are K strings in the place of R, one after the other, and
the symbol must be remembered K times as long:

    B T R R … R T E      B P R R … R P E

Entropy, exactly. Let v(s) be how often a walk is expected to visit state s. It starts in 0, and
what leaves a state arrives in another: v(0) = v(1) = v(6) = 1 and

    v(2) = v(1)/2 + v(2)/2             v(2) = 1
    v(3) = v(1)/2 + v(3)/2 + v(4)/2    v(3) = 2
    v(4) = v(2)/2 + v(5)/2             v(4) = 1
    v(5) = v(3)/2                      v(5) = 1

A visit emits one symbol, so R has 8 symbols on the average. It costs one bit in the states 1 to 5,
whose visits add up to 6, and nothing elsewhere. The line adds B, its symbol twice, E and the line
end, 5 characters of which only the first T or P is free, at 1 bit. So a line has

    1 + 6 K bits in 5 + 8 K characters on the average,

7/13 bits a character for K = 1 and 43/61 for K = 7. As lines are independent, this quotient of
means is the entropy rate of the text: no model can predict endless text with fewer bits a
character. Whoever does not remember the second symbol pays one bit a line more: 1 + 1/(1 + 6 K)
times the entropy. `entropy` solves the same equations for the automaton of the whole line.

The corpus that ships has K = 7:

    python corpora/reber.py -n 4000 --seed 1 --inner 7 > corpora/reber.txt
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple

Arcs = dict[str, str]
"""The arcs that leave a state, all alike probable: from the symbol to the state it leads to."""

REBER: dict[int, dict[str, int]] = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}
"""Reber's automaton, as drawn above."""

START, END = "start", "end"
"""The states in which a line begins and, after its line end, is over."""


class Shipped(NamedTuple):
    """How `corpora/reber.txt` is made."""

    lines: int = 4000
    seed: int = 1
    inner: int = 7


SHIPPED = Shipped()


@cache
def table(inner: int = 1) -> dict[str, Arcs]:
    """The automaton of a whole line with `inner` embedded strings, from `START` to `END`.

    State T9 is state 2 of the second embedded string (9 = 7 + 2) in a line whose second symbol is
    T: the end of one string, 7, is the beginning of the next.
    """
    arcs: dict[str, Arcs] = {START: {"B": "second"}, "second": {"T": "T0", "P": "P0"}}
    for symbol in "TP":
        for before in range(0, 7 * inner, 7):
            for state, leaving in REBER.items():
                arcs[f"{symbol}{before + state}"] = {
                    emitted: f"{symbol}{before + to}" for emitted, to in leaving.items()
                }
        arcs[f"{symbol}{7 * inner}"] = {symbol: "last"}
    return {**arcs, "last": {"E": "line end"}, "line end": {"\n": END}}


def string(rng: random.Random, inner: int = 1) -> str:
    """A line, without its line end."""
    arcs, state, emitted = table(inner), START, ""
    while state != "line end":
        symbol, state = list(arcs[state].items())[int(rng.random() * len(arcs[state]))]
        emitted += symbol
    return emitted


def strings(n: int, seed: int, inner: int = 1) -> Iterator[str]:
    """As many lines, without their line ends; the same for the same seed."""
    rng = random.Random(seed)
    return (string(rng, inner) for _ in range(n))


def successors(prefix: str, inner: int = 1) -> tuple[str, ...]:
    """The characters that may follow the beginning of a line, all alike probable; none after its
    line end. ValueError where no line begins so."""
    state = START
    for at, symbol in enumerate(prefix):
        following = table(inner).get(state, {}).get(symbol)
        if following is None:
            raise ValueError(f"no line begins with {prefix[: at + 1]!r}")
        state = following
    return tuple(table(inner).get(state, ()))


def log_probability(line: str, inner: int = 1) -> float:
    """ln of the probability of a line, with or without its line end: exactly -ln 2 times the
    number of choices made on its way. -inf for what the grammar does not make."""
    state, choices = START, 0
    for symbol in line.removesuffix("\n") + "\n":
        leaving = table(inner).get(state, {})
        if symbol not in leaving:
            return -math.inf
        choices += len(leaving) - 1
        state = leaving[symbol]
    return -choices * math.log(2)


def second_last(line: str) -> str:
    """The last symbol but one, T or P, which is the second one again."""
    return line.removesuffix("\n")[-2]


def expected_visits(arcs: dict[str, Arcs]) -> dict[str, Fraction]:
    """How often a walk from `START` to `END` visits each state, on the average.

    Solves, for all states s at once, v(s) = [s is START] + sum over arcs r -> s of v(r) / (number
    of arcs that leave r), by elimination in fractions: row s becomes v(s) = constant + the terms
    of states not yet eliminated.
    """
    rows = {s: {s: Fraction(1)} for s in arcs}  # coefficients of (v(s) - what arrives) …
    given = {s: Fraction(s == START) for s in arcs}  # … which are these
    for r, leaving in arcs.items():
        for s in leaving.values():
            if s != END:
                rows[s][r] = rows[s].get(r, Fraction(0)) - Fraction(1, len(leaving))
    for r in arcs:
        pivot = rows[r][r]
        rows[r] = {k: x / pivot for k, x in rows[r].items()}
        given[r] /= pivot
        for s in arcs:
            factor = rows[s].pop(r, None) if s != r else None
            if factor:
                for k, x in rows[r].items():
                    if k != r:
                        rows[s][k] = rows[s].get(k, Fraction(0)) - factor * x
                given[s] -= factor * given[r]
    return given


class Entropy(NamedTuple):
    """The mean information of the grammar's text."""

    nats: float
    """Per character."""
    bits: Fraction
    """Per character."""
    line_bits: Fraction
    line_characters: Fraction
    """Of a line on the average, its line end included."""


@cache
def entropy(inner: int = 1) -> Entropy:
    """The exact entropy of the text, lines with their line ends."""
    arcs = table(inner)
    visits = expected_visits(arcs)
    characters = sum(visits.values(), Fraction(0))
    bits = sum((v for s, v in visits.items() if len(arcs[s]) == 2), Fraction(0))
    return Entropy(float(bits / characters) * math.log(2), bits / characters, bits, characters)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--lines", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inner", type=int, default=1, help="embedded strings in a line")
    parser.add_argument("--entropy", action="store_true", help="print the exact entropy instead")
    o = parser.parse_args()
    if o.inner < 1:
        parser.error("--inner must be at least 1")
    if o.entropy:
        e = entropy(o.inner)
        print(f"{e.bits} = {float(e.bits):.6f} bits, {e.nats:.6f} nats a character")
        return
    sys.stdout.writelines(f"{line}\n" for line in strings(o.lines, o.seed, o.inner))


if __name__ == "__main__":
    main()
