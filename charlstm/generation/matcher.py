"""Regular expressions over a vocabulary: which units can still lead to a match.

The automaton over characters becomes a deterministic one over units (M. Rabin, D. Scott, Finite
automata and their decision problems, 1959), in which every state knows how many units a match is
away. A unit is allowed where, with what is left of the length, a match can follow.

An alphabet says how units spell characters. For a model of bytes that is UTF-8: all characters,
laid out by their bytes, become blocks of blocks, of which only those that differ are kept.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from charlstm.generation.nfa import Nfa
from charlstm.generation.regex import MAX_STATES, NAMED, error
from charlstm.nn.arrays import Array
from charlstm.text.vocabulary import Vocabulary

MAX_TABLE = 50_000_000
"""An automaton with more states times units is refused."""

NEVER = 1 << 30
"""The distance to a match where there is none: more units than any text has."""

OUT_OF_REACH = 32767
"""The same in sixteen bits: an automaton has fewer states."""

MOST_MASKS = 1024
"""Masks that are kept for single samples: few states are met again and again."""

DEAD = 0
"""The state from which no match can be reached. It is also that of streams that write no text;
there anything may come."""

POINTS = sys.maxunicode + 1
"""Code points."""

SURROGATES = range(0xD800, 0xE000)
"""Code points that are no characters."""

NOTHING = -1
"""Where a byte leads that no character continues with."""

Position = tuple[frozenset[int], int]
"""States of an `Nfa`, and where among units one is: for words 1 where a space is to come before
the next, for bytes the block of characters that those so far have led to, 0 between characters."""

After = Callable[[frozenset[int], int], frozenset[int]]


def _live(nfa: Nfa, kinds: Sequence[tuple[bool, ...]]) -> Callable[[frozenset[int]], set[int]]:
    """Makes a function that says which kinds of characters have an arc from some of the states."""
    kinds_of: list[set[int]] = [
        {kind for kind, belongs in enumerate(kinds) if belongs[of]} for of in range(len(nfa.sets))
    ]

    @cache
    def live(states: frozenset[int]) -> set[int]:
        places = {of for state in states for of, _ in nfa.arcs[state]}
        return set().union(*(kinds_of[of] for of in places))

    return live


class _Branch:
    """What follows a kind of character in the shapes of units: the shapes that end with it, and
    the kinds that come next."""

    def __init__(self) -> None:
        self.shapes: list[int] = []
        self.after: _Trie = {}


_Trie = dict[int, _Branch]


class UnitAlphabet:
    """Units that are a character or several: their kinds of characters are followed.

    Characters that belong to the same sets are of one kind; `kinds` has for each to which sets.
    Units of the same kinds are of one shape: `shape_of` (V,) says of which of the `shapes`. `never`
    (V,) are those that are no part of any match.
    """

    def __init__(self, nfa: Nfa, vocabulary: Vocabulary) -> None:
        self.words = bool(vocabulary.between)
        numbers: dict[tuple[bool, ...], int] = {}
        kind_of = {
            c: numbers.setdefault(tuple(s(c) for s in nfa.sets), len(numbers))
            for c in sorted({" ", *"".join(vocabulary.units)})
        }
        self.kinds, self.space = list(numbers), kind_of[" "]
        found: dict[tuple[int, ...], int] = {}
        self.shape_of = np.array(
            [found.setdefault(tuple(kind_of[c] for c in u), len(found)) for u in vocabulary.units]
        )
        self.shapes = list(found)
        self.never = ~vocabulary.within_lines()
        self._trie: _Trie = {}
        for place, shape in enumerate(self.shapes):
            node, branch = self._trie, _Branch()
            for kind in shape:
                branch = node.setdefault(kind, _Branch())
                node = branch.after
            branch.shapes.append(place)
        self._live = _live(nfa, self.kinds)
        self._found: dict[frozenset[int], list[tuple[int, Position]]] = {}

    def follow(self, state: Position, after: After) -> list[tuple[int, Position]]:
        """The shapes of units that can come in a state, and the state after each."""
        states, spaced = state
        if spaced:
            states = after(states, self.space)
        if states not in self._found:
            self._found[states] = list(self._walk(states, after))
        return self._found[states]

    def _walk(self, states: frozenset[int], after: After) -> Iterator[tuple[int, Position]]:
        todo = [(self._trie, states)]
        while todo:
            trie, states = todo.pop()
            for kind in trie.keys() & self._live(states):
                reached, branch = after(states, kind), trie[kind]
                for place in branch.shapes:
                    yield place, (reached, int(self.words))
                if branch.after:
                    todo.append((branch.after, reached))


class ByteAlphabet:
    """Bytes, of which one to four are a character; otherwise as `UnitAlphabet`.

    A byte leads to a kind of character, to `NOTHING`, or, as a number beyond the kinds, to a block:
    the characters whose UTF-8 begins with what has been read. Block 0 is that of all characters.
    The shape of a byte is where it leads in each block.
    """

    def __init__(self, nfa: Nfa, vocabulary: Vocabulary) -> None:
        edges = {*nfa.edges, SURROGATES.start, SURROGATES.stop, POINTS}
        begins = sorted(edges.union(*(_edges(name) for name in nfa.named)))
        numbers: dict[tuple[bool, ...], int] = {}
        of_run = [
            NOTHING
            if begin in SURROGATES
            else numbers.setdefault(tuple(s(chr(begin)) for s in nfa.sets), len(numbers))
            for begin in begins[:-1]
        ]
        self.kinds = list(numbers)
        blocks = self._blocks(np.repeat(np.array(of_run, np.int32), np.diff(begins)))
        self.inside: list[set[int]] = [set()]  # the kinds in each block but the first
        for block in blocks[1:]:
            parts = set(block[block != NOTHING].tolist())
            within = {k for k in parts if k < len(self.kinds)}
            self.inside.append(
                within.union(*(self.inside[k - len(self.kinds)] for k in parts - within))
            )
        found: dict[tuple[int, ...], int] = {}
        self.shape_of = np.array(
            [found.setdefault(tuple(column), len(found)) for column in np.array(blocks).T.tolist()]
        )
        self.shapes = list(found)
        self.never = ~vocabulary.within_lines()
        self._live = _live(nfa, self.kinds)

    def _blocks(self, kinds: Array) -> list[Array]:
        """Where each byte leads in each block (256,), by the kinds (`POINTS`,) of all characters; a
        block comes after those that it leads to, but the first of all after none."""
        nothing = np.full(64, NOTHING, np.int32)
        numbers, blocks = {nothing.tobytes(): NOTHING}, [np.full(256, NOTHING, np.int32)]

        def joined(parts: Array) -> Array:
            """The blocks of 64 parts each."""
            data, size = parts.tobytes(), nothing.nbytes
            keys = [data[at : at + size] for at in range(0, len(data), size)]
            for key in keys:
                if key not in numbers:
                    numbers[key] = len(self.kinds) + len(blocks)
                    row = np.frombuffer(key, np.int32)
                    blocks.append(np.concatenate([nothing, nothing, row, nothing]))
            return np.array([numbers[key] for key in keys], np.int32)

        # what is longer than it need be is no UTF-8
        first, two = blocks[0], joined(kinds)
        first[:0x80], first[0xC2:0xE0], two[:0x20] = kinds[:0x80], two[0x02:0x20], NOTHING
        three = joined(two)
        first[0xE0:0xF0], three[:0x10] = three[:0x10], NOTHING
        first[0xF0:0xF5] = joined(np.append(three, nothing[: -len(three) % 64]))
        return blocks

    def follow(self, state: Position, after: After) -> Iterator[tuple[int, Position]]:
        """The shapes of bytes that can come in a state, and the state after each."""
        states, block = state
        live, kinds = self._live(states), len(self.kinds)
        for place, shape in enumerate(self.shapes):
            to = shape[block]
            if to in live:
                yield place, (after(states, to), 0)
            elif to >= kinds and not live.isdisjoint(self.inside[to - kinds]):
                yield place, (states, to - kinds)


@cache
def _edges(name: str) -> list[int]:
    """Code points at which the set of a name begins or ends."""
    inside = np.fromiter(map(NAMED[name], map(chr, range(POINTS))), np.bool_, POINTS)
    edges: list[int] = (np.flatnonzero(inside[1:] != inside[:-1]) + 1).tolist()
    return edges


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
        found: dict[Position, int] = {(frozenset(), 0): DEAD, (start, 0): 1}
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
        self.needed = np.minimum(self.distance + 1, OUT_OF_REACH).astype(np.int16)[self.table]
        self.needed[:, self.line_ends] = np.where(self.accepting, 1, OUT_OF_REACH)[:, None]
        self.needed[DEAD] = 0
        self.least = self.needed.min(axis=1).astype(np.intp)  # (S,)
        self.least[self.least == OUT_OF_REACH] = NEVER
        self.most = np.max(self.needed, axis=1, where=self.needed < OUT_OF_REACH, initial=0)  # (S,)
        self.masks: dict[int, Array] = {}
        """What may come in a state where the length is no limit, of the states that were met."""

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
        # numbers of one type compare fastest
        most = np.minimum(left, OUT_OF_REACH - 1).astype(np.int16)
        allowed: Array = self.needed.take(states, 0) <= most[:, None]
        return allowed

    def mask(self, state: int, left: int) -> Array:
        """Which units (V,) may come in one state, as `allowed` has it, but 1.0 or 0.0: a product
        with this takes a third of the time."""
        needed: Array = self.needed[state]
        if left < self.most.item(state):
            return (needed <= left).astype(np.float64)
        if state not in self.masks:
            if len(self.masks) == MOST_MASKS:
                self.masks.clear()
            self.masks[state] = (needed < OUT_OF_REACH).astype(np.float64)
        return self.masks[state]

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
