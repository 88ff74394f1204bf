"""Regular expressions over a vocabulary: which units can still lead to a match.

The automaton over characters becomes a deterministic one over units (M. Rabin, D. Scott, Finite
automata and their decision problems, 1959), in which every state knows how many units a match is
away. A unit is allowed where, with what is left of the length, a match can follow.
"""

from collections import deque

import numpy as np

from charlstm.generation.alphabet import ByteAlphabet, State, UnitAlphabet
from charlstm.generation.nfa import Nfa
from charlstm.generation.regex import MAX_STATES, error
from charlstm.nn.arrays import Array
from charlstm.text.vocabulary import Vocabulary

MAX_TABLE = 50_000_000
"""An automaton with more states times units is refused."""

NEVER = 1 << 30
"""The distance to a match where there is none: more units than any text has."""

FAR = 32767
"""The same in sixteen bits: an automaton has fewer states."""

DEAD = 0
"""The state from which no match can be reached. It is also that of streams that write no text;
there anything may come."""


class Matcher:
    """A regular expression over the units of a vocabulary (V): it matches a text as a whole.

    A line end is no part of a match, and neither is the CR of a CRLF. `table` (S, V) has the state
    after each unit, `distance` (S,) the fewest units to a match. `needed` (S, V) has how many units
    it takes at least to come to a match by each unit, or, by one of `line_ends`, which end a text,
    to end with one. `DEAD` is also the state of what is no part of the text; there anything may
    come.
    """

    def __init__(self, expression: str, vocabulary: Vocabulary) -> None:
        self.expression, self.name, V = expression, vocabulary.name, len(vocabulary)
        self.words = bool(vocabulary.between)
        if vocabulary.normalised(expression) != expression:
            # not brought into it unasked: a class of composed characters would be one of parts
            raise error(
                expression,
                f"is not in the normal form {vocabulary.normalize} of the model's text; write it "
                "in that form",
            )
        nfa = Nfa(expression)
        alphabet = (UnitAlphabet if vocabulary.is_text else ByteAlphabet)(nfa, vocabulary)
        steps: dict[tuple[frozenset[int], int], frozenset[int]] = {}

        def after(states: frozenset[int], kind: int) -> frozenset[int]:
            """The states after a character of a kind."""
            key = states, kind
            if key not in steps:
                belongs = alphabet.kinds[kind]
                steps[key] = nfa.closure(
                    {end for state in states for of, end in nfa.arcs[state] if belongs[of]}
                )
            return steps[key]

        # a state is a set of the other automaton's, and where among units it is
        start = nfa.closure({nfa.start})
        found: dict[State, int] = {(frozenset(), 0): DEAD, (start, 0): 1}
        if self.words:
            found[start, 1] = 2
        rows, todo = [np.zeros(V, np.int32)], list(found)[1:]
        before: list[set[int]] = [set() for _ in found]  # the states that lead to each
        possible = set(alphabet.shape_of[~alphabet.never].tolist())
        for number, state in enumerate(todo, 1):  # which grows on the way
            targets = np.full(len(alphabet.shapes), DEAD, np.int32)
            for place, key in alphabet.follow(state, after):
                if place not in possible:
                    continue
                if key not in found:
                    if len(found) == MAX_STATES or len(found) * V > MAX_TABLE:
                        raise error(expression, "is too large; repeat less")
                    found[key] = len(found)
                    before.append(set())
                    todo.append(key)
                targets[place] = found[key]
                before[found[key]].add(number)
            rows.append(np.where(alphabet.never, DEAD, targets[alphabet.shape_of]))
        self.table = np.array(rows)
        self.accepting = np.array(
            [nfa.accept in states and (self.words or not at) for states, at in found]
        )
        self.distance = _distances(self.accepting, before)
        self.line_ends = vocabulary.line_ends
        self.needed = np.minimum(self.distance + 1, FAR).astype(np.int16)[self.table]
        self.needed[:, self.line_ends] = np.where(self.accepting, 1, FAR)[:, None]
        self.needed[DEAD] = 0
        self.least = self.needed.min(axis=1)  # (S,)

    def start(self, before: str, length: int) -> int:
        """The state before a text that continues `before`. Raises `UsageError` where no text of at
        most `length` units matches."""
        spaced = self.words and bool(before) and not before[-1].isspace()
        distance = self.distance.item(2 if spaced else 1)
        if distance >= NEVER and spaced and self.distance.item(1) < NEVER:
            raise error(
                self.expression,
                "the text begins with a space, since the seed ends with a word; begin the "
                "expression with a space, or end the seed with one",
            )
        if distance >= NEVER:
            raise error(self.expression, "the model's vocabulary has no text that matches")
        if distance > length:
            raise error(
                self.expression,
                f"a match has at least {distance} {self.name}s; give --length {distance} or more",
            )
        return 2 if spaced else 1

    def allowed(self, states: Array, left: Array) -> Array:
        """Which units (K, V) may come in states (K,), where `left` (K,) more may: those after which
        a match can follow, and a line end, which ends a text, where it matches."""
        most = np.minimum(left, FAR - 1).astype(np.int16)  # numbers of one type compare fastest
        allowed: Array = self.needed.take(states, 0) <= most[:, None]
        return allowed

    def over(self, states: Array, left: Array) -> Array:
        """In which states (K,) nothing may come any more: the text that led there matches."""
        over: Array = self.least[states] > left
        return over


def _distances(accepting: Array, before: list[set[int]]) -> Array:
    """How many units each state (S,) is away from the next accepting one, by the states that lead
    to each; `NEVER` where there is no way."""
    distance = np.where(accepting, 0, NEVER)
    todo = deque(np.flatnonzero(accepting).tolist())
    while todo:
        state = todo.popleft()
        for nearer in before[state]:
            if distance[nearer] == NEVER:
                distance[nearer] = distance[state] + 1
                todo.append(nearer)
    return distance
