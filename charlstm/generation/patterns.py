"""Regular expressions over a vocabulary: which units can still lead to a match.

An expression becomes a nondeterministic automaton over characters (K. Thompson, Regular expression
search algorithm, 1968) and that a deterministic one over the units of a vocabulary (M. Rabin,
D. Scott, Finite automata and their decision problems, 1959), in which every state knows how many
units a match is away. A unit is allowed where, with what is left of the length, a match can follow.

To a model of bytes a match is its UTF-8: all characters, laid out by their bytes, become blocks of
blocks, of which only those that differ are kept.

Understood are literals, `.`, classes such as [a-z] and [^,], `*`, `+`, `?`, {m}, {m,}, {,n}, {m,n},
`|`, groups, \\d, \\w, \\s and their capitals, and escapes such as \\t, \\xhh and \\uhhhh, all as in
Python's `re`; and in a class the named ones of POSIX, such as [:digit:]. Anything else is named in
an error.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from charlstm.errors import UsageError
from charlstm.nn.arrays import Array
from charlstm.text.vocabulary import Vocabulary

MAX_STATES = 20_000
"""An automaton with more states than this is refused."""

MAX_TABLE = 50_000_000
"""So are more states times units than this."""

NEVER = 1 << 30
"""More units than any text has: the way to a match where there is none."""

FAR = 32767
"""As many in sixteen bits: an automaton has fewer states."""

POINTS = sys.maxunicode + 1
"""Code points."""

SURROGATES = range(0xD800, 0xE000)
"""Code points that are no characters."""

NOTHING = -1
"""Where a byte leads that no character goes on with."""

DEAD = 0
"""The state from which no match can be reached."""

SHOWN = 60
"""Characters of an expression that a message shows."""

Set = Callable[[str], bool]
"""Whether a character belongs."""

_CLASSES: dict[str, Set] = {
    "d": str.isdecimal,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
}
"""Sets with a name; a capital is all else."""

_POSIX: dict[str, Set] = {
    "alpha": str.isalpha,
    "digit": str.isdecimal,
    "alnum": lambda c: c.isalpha() or c.isdecimal(),
    "space": str.isspace,
    "blank": lambda c: c in " \t",
    "upper": str.isupper,
    "lower": str.islower,
    "punct": lambda c: c.isprintable() and not (c.isalnum() or c.isspace()),
    "xdigit": lambda c: c in "0123456789abcdefABCDEF",
    "word": _CLASSES["w"],
    "cntrl": lambda c: c < " " or "\x7f" <= c < "\xa0",
    "print": str.isprintable,
    "graph": lambda c: c.isprintable() and not c.isspace(),
}
"""Sets that POSIX names within a class, [[:alpha:]], for all of Unicode."""

_NAMED = _CLASSES | _POSIX

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


class _One(NamedTuple):
    """A character of a set."""

    of: Set


class _All(NamedTuple):
    """One after the other."""

    parts: list[Node]


class _Any(NamedTuple):
    """One of several."""

    parts: list[Node]


class _Repeat(NamedTuple):
    """From `least` to `most` times; None is without a limit."""

    part: Node
    least: int
    most: int | None


Node = _One | _All | _Any | _Repeat


def _error(expression: str, what: str) -> UsageError:
    shown = expression if len(expression) <= SHOWN else expression[:SHOWN] + "…"
    return UsageError(f"--match '{shown}': {what}")


class _Parser:
    """Makes a tree of an expression. It keeps the groups that are open on a stack of its own, so
    that they may nest as deeply as they like."""

    def __init__(self, expression: str) -> None:
        self.text, self.at = expression, 0
        self.edges = {0}
        """Code points before which some set may begin or end, those of `named` sets aside."""
        self.named: set[str] = set()

    def parse(self) -> Node:
        opened: list[tuple[int, list[Node], list[Node]]] = []  # place, alternatives, sequence
        parts: list[Node] = []
        sequence: list[Node] = []
        while self.at < len(self.text):
            begin = self.at
            if self.take("("):
                if self.take("?") and not self.take(":"):
                    raise self.error(f"(?{self.peek()} is not supported", begin)
                opened.append((begin, parts, sequence))
                parts, sequence = [], []
            elif self.take("|"):
                parts.append(_All(sequence))
                sequence = []
            elif self.peek() == ")":
                if not opened:
                    raise self.error("a parenthesis is closed that was not opened")
                self.at += 1
                group = self.any_of([*parts, _All(sequence)])
                _, parts, sequence = opened.pop()
                sequence.append(self.repeated(group))
            else:
                sequence.append(self.repeated(self.atom()))
        if opened:
            raise self.error("a parenthesis is not closed", opened[-1][0])
        return self.any_of([*parts, _All(sequence)])

    @staticmethod
    def any_of(parts: list[Node]) -> Node:
        """One of some sequences; without a node of its own where there is one."""
        if len(parts) > 1:
            return _Any(parts)
        (only,) = parts
        return only.parts[0] if isinstance(only, _All) and len(only.parts) == 1 else only

    def error(self, what: str, at: int | None = None) -> UsageError:
        return _error(self.text, f"{what}, at position {self.at if at is None else at}")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def repeated(self, node: Node) -> Node:
        begin = self.at
        if self.take("*"):
            node = _Repeat(node, 0, None)
        elif self.take("+"):
            node = _Repeat(node, 1, None)
        elif self.take("?"):
            node = _Repeat(node, 0, 1)
        elif self.take("{"):
            numbers, closed, _ = self.text[self.at :].partition("}")
            least, comma, most = numbers.partition(",")
            limits = [n for n in (least, most) if n]
            if not closed or not limits or not all(n.isascii() and n.isdigit() for n in limits):
                raise self.error("expected {m}, {m,}, {,n} or {m,n}", begin)
            if any(len(n) > len(str(MAX_STATES)) for n in limits):
                raise self.error(f"more than {MAX_STATES} repetitions are not supported", begin)
            self.at += len(numbers) + 1
            low = int(least or 0)
            high = low if not comma else int(most) if most else None
            if high is not None and high < low:
                raise self.error("the limits of the repetition are in the wrong order", begin)
            if max(low, high or 0) > MAX_STATES:
                raise self.error(f"more than {MAX_STATES} repetitions are not supported", begin)
            node = _Repeat(node, low, high)
        else:
            return node
        if self.peek() and self.peek() in "*+?{":
            raise self.error(f"{self.peek()!r} after a repetition is not supported")
        return node

    def atom(self) -> Node:
        begin, c = self.at, self.peek()
        self.at += 1
        if c == "[":
            return _One(self.set(begin))
        if c == ".":
            self.between("\n", "\n")
            return _One(lambda c: c != "\n")
        if c in "*+?{":
            raise self.error(f"nothing stands before {c!r} to be repeated", begin)
        if c in "^$":
            raise self.error(f"{c!r} is not supported: the whole text is matched anyway", begin)
        if c == "\\":
            found = self.escape(begin)
            return _One(self.only(found) if isinstance(found, str) else found)
        return _One(self.only(c))

    def only(self, character: str) -> Set:
        self.between(character, character)
        return character.__eq__

    def between(self, low: str, high: str) -> None:
        """Take notice of where a range of characters begins and ends."""
        self.edges |= {ord(low), ord(high) + 1}

    def escape(self, begin: int) -> str | Set:
        """What follows a backslash: a character, or a set."""
        c = self.peek()
        self.at += 1
        if c.lower() in _CLASSES and c:
            of = _CLASSES[c.lower()]
            self.named.add(c.lower())
            return of if c.islower() else lambda x: not of(x)
        if c in _ESCAPES and c:
            return _ESCAPES[c]
        if c in "xuU" and c:
            n = {"x": 2, "u": 4, "U": 8}[c]
            digits = self.text[self.at : self.at + n]
            try:
                point = int(digits, 16)
                if len(digits) != n or not digits.isalnum():
                    raise ValueError
                self.at += n
                return chr(point)
            except (ValueError, OverflowError):
                raise self.error(f"expected {n} hexadecimal digits", begin) from None
        if not c or c.isalnum():
            raise self.error(f"\\{c} is not supported", begin)
        return c

    def set(self, begin: int) -> Set:
        """A class, after its opening bracket."""
        negative = self.take("^")
        ranges: list[tuple[str, str]] = []
        sets: list[Set] = []
        first = True
        while first or self.peek() != "]":
            if not self.peek():
                raise self.error("a bracket is not closed", begin)
            named = re.compile(r"\[:(\^?)([a-z]*):\]").match(self.text, self.at)
            if named:
                sets.append(self.posix(named))
                first = False
                continue
            first = False
            low = self.member()
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self.member()
                if not isinstance(low, str) or not isinstance(high, str) or high < low:
                    raise self.error("the range of characters is not one", begin)
                ranges.append((low, high))
            elif not isinstance(low, str):
                sets.append(low)
            else:
                ranges.append((low, low))
        self.at += 1
        for low, high in ranges:
            self.between(low, high)

        def of(c: str) -> bool:
            found = any(low <= c <= high for low, high in ranges) or any(s(c) for s in sets)
            return found != negative

        return of

    def posix(self, named: re.Match[str]) -> Set:
        """A named class within a class, [:alpha:] or, negated, [:^alpha:]."""
        negated, name = named.groups()
        if name not in _POSIX:
            known = ", ".join(_POSIX)
            raise self.error(f"[:{name}:] is no class; there are {known}", named.start())
        self.at, of = named.end(), _POSIX[name]
        self.named.add(name)
        return (lambda c: not of(c)) if negated else of

    def member(self) -> str | Set:
        begin, c = self.at, self.peek()
        self.at += 1
        return self.escape(begin) if c == "\\" else c


def _literals(parts: Sequence[Node]) -> tuple[list[tuple[_One, ...]], list[Node]]:
    """Of alternatives those that are characters and nothing else, and the others."""
    words, others = [], []
    for part in parts:
        ones = part.parts if isinstance(part, _All) else [part]
        if all(isinstance(one, _One) for one in ones):
            words.append(tuple(one for one in ones if isinstance(one, _One)))
        else:
            others.append(part)
    return words, others


def _known(state: int | None) -> int:
    assert state is not None
    return state


@cache
def _edges(name: str) -> list[int]:
    """Code points at which the set of a name begins or ends."""
    inside = np.fromiter(map(_NAMED[name], map(chr, range(POINTS))), np.bool_, POINTS)
    edges: list[int] = (np.flatnonzero(inside[1:] != inside[:-1]) + 1).tolist()
    return edges


class _Nfa:
    """An automaton whose states have arcs with a set, and arcs without, which cost nothing."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.free: list[list[int]] = []
        self.arcs: list[list[tuple[int, int]]] = []  # (place of the set, state after it)
        self.places: dict[Set, int] = {}
        self.accept = self.state()
        parser = _Parser(expression)
        self.start = self.add(parser.parse(), self.accept)
        self.sets = list(self.places)
        self.named, self.edges = parser.named, parser.edges

    def state(self) -> int:
        if len(self.free) == MAX_STATES:
            raise _error(self.expression, "is too large; repeat less")
        self.free.append([])
        self.arcs.append([])
        return len(self.free) - 1

    def add(self, node: Node, after: int) -> int:
        """Add what matches a node and then goes on at `after`; return where it begins."""
        begin = after
        running = [self._adding(node, after)]  # a stack of its own, however deep the tree is
        answer: int | None = None
        while running:
            try:
                running.append(self._adding(*running[-1].send(answer)))
                answer = None
            except StopIteration as end:
                running.pop()
                answer = begin = end.value
        return begin

    def _adding(self, node: Node, after: int) -> Generator[tuple[Node, int], int | None, int]:
        """As `add`, but what it needs of other nodes it asks for: it yields a node with what comes
        after it, and is sent where that begins."""
        if isinstance(node, _One):
            return self._arc(node, after)
        if isinstance(node, _All):
            for part in reversed(node.parts):
                after = _known((yield part, after))
            return after
        if isinstance(node, _Any):
            literals, others = _literals(node.parts)
            begin = self._words(literals, after)
            for part in others:
                self.free[begin].append(_known((yield part, after)))
            return begin
        if node.most is None:
            again = self.state()
            self.free[again] += [_known((yield node.part, again)), after]
            after = again
        else:
            end = after
            for _ in range(node.most - node.least):
                begin = self.state()
                self.free[begin] += [_known((yield node.part, after)), end]
                after = begin
        for _ in range(node.least):
            after = _known((yield node.part, after))
        return after

    def _arc(self, node: _One, after: int) -> int:
        begin = self.state()
        self.arcs[begin].append((self._place(node), after))
        return begin

    def _words(self, words: list[tuple[_One, ...]], after: int) -> int:
        """Add alternatives that are characters and nothing else. Those with equal beginnings share
        their states, and so do those with equal ends: it takes fewer states than letters
        (J. Daciuk and others, Incremental construction of minimal acyclic finite-state automata,
        2000)."""
        begin = self.state()
        made: dict[tuple[bool, tuple[tuple[int, int], ...]], int] = {(True, ()): after}
        path: list[tuple[bool, list[tuple[int, int]]]] = [(False, [])]  # of the word before
        keys = sorted({tuple(self._place(one) for one in word) for word in words})

        def shorten(length: int) -> None:
            """Make states of the end of the path: no more words begin with it."""
            while len(path) > length + 1:
                accepts, arcs = path.pop()
                state = made.get((accepts, tuple(arcs)))
                if state is None:
                    state = made[accepts, tuple(arcs)] = self.state()
                    self.arcs[state] += arcs
                    self.free[state] += [after] * accepts
                last = path[-1][1]
                last[-1] = last[-1][0], state

        before: tuple[int, ...] = ()
        for key in keys:
            common = next(
                (n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b),
                min(len(before), len(key)),
            )
            shorten(common)
            for place in key[common:]:
                path[-1][1].append((place, after))
                path.append((False, []))
            path[-1] = (True, path[-1][1])
            before = key
        shorten(0)
        accepts, arcs = path[0]
        self.arcs[begin] += arcs
        self.free[begin] += [after] * accepts
        return begin

    def _place(self, one: _One) -> int:
        return self.places.setdefault(one.of, len(self.places))

    def closure(self, states: set[int]) -> frozenset[int]:
        """The states with all that are reached from them for nothing."""
        found, todo = set(states), list(states)
        while todo:
            for state in self.free[todo.pop()]:
                if state not in found:
                    found.add(state)
                    todo.append(state)
        return frozenset(found)


State = tuple[frozenset[int], int]
"""States of an `_Nfa`, and where among units one is: for words 1 where a space is to come before
the next, for bytes the block of characters that those so far have led to, 0 between characters."""

After = Callable[[frozenset[int], int], frozenset[int]]


def _live(nfa: _Nfa, kinds: Sequence[tuple[bool, ...]]) -> Callable[[frozenset[int]], set[int]]:
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

    def __init__(self, after: _Trie) -> None:
        self.shapes: list[int] = []
        self.after = after


_Trie = dict[int, _Branch]


class _Units:
    """Units that are a character or several: their kinds of characters are followed.

    Characters that belong to the same sets are of one kind; `kinds` has for each to which sets.
    Units of the same kinds are of one shape: `shape_of` (V,) says of which of the `shapes`. `never`
    (V,) are those that are no part of any match.
    """

    def __init__(self, nfa: _Nfa, vocabulary: Vocabulary) -> None:
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
            node, branch = self._trie, _Branch({})
            for kind in shape:
                branch = node.setdefault(kind, _Branch({}))
                node = branch.after
            branch.shapes.append(place)
        self._live = _live(nfa, self.kinds)
        self._found: dict[frozenset[int], list[tuple[int, State]]] = {}

    def follow(self, state: State, after: After) -> list[tuple[int, State]]:
        """The shapes of units that can come in a state, and the state after each."""
        states, spaced = state
        if spaced:
            states = after(states, self.space)
        if states not in self._found:
            self._found[states] = list(self._walk(states, after))
        return self._found[states]

    def _walk(self, states: frozenset[int], after: After) -> Iterator[tuple[int, State]]:
        todo = [(self._trie, states)]
        while todo:
            trie, states = todo.pop()
            for kind in trie.keys() & self._live(states):
                reached, branch = after(states, kind), trie[kind]
                for place in branch.shapes:
                    yield place, (reached, int(self.words))
                if branch.after:
                    todo.append((branch.after, reached))


class _Bytes:
    """Bytes, of which one to four are a character; otherwise as `_Units`.

    A byte leads to a kind of character, to `NOTHING`, or, as a number beyond the kinds, to a block:
    the characters whose UTF-8 begins with what has been read. Block 0 is that of all characters.
    The shape of a byte is where it leads in each block.
    """

    def __init__(self, nfa: _Nfa, vocabulary: Vocabulary) -> None:
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

    def follow(self, state: State, after: After) -> Iterator[tuple[int, State]]:
        """The shapes of bytes that can come in a state, and the state after each."""
        states, block = state
        live, kinds = self._live(states), len(self.kinds)
        for place, shape in enumerate(self.shapes):
            to = shape[block]
            if to in live:
                yield place, (after(states, to), 0)
            elif to >= kinds and not live.isdisjoint(self.inside[to - kinds]):
                yield place, (states, to - kinds)


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
            raise _error(
                expression,
                f"is not in the normal form {vocabulary.normalize} of the model's text; write it "
                "in that form",
            )
        nfa = _Nfa(expression)
        units = (_Units if vocabulary.is_text else _Bytes)(nfa, vocabulary)
        steps: dict[tuple[frozenset[int], int], frozenset[int]] = {}

        def after(states: frozenset[int], kind: int) -> frozenset[int]:
            """The states after a character of a kind."""
            key = states, kind
            if key not in steps:
                belongs = units.kinds[kind]
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
        possible = set(units.shape_of[~units.never].tolist())
        for number, state in enumerate(todo, 1):  # which grows on the way
            targets = np.full(len(units.shapes), DEAD, np.int32)
            for place, key in units.follow(state, after):
                if place not in possible:
                    continue
                if key not in found:
                    if len(found) == MAX_STATES or len(found) * V > MAX_TABLE:
                        raise _error(expression, "is too large; repeat less")
                    found[key] = len(found)
                    before.append(set())
                    todo.append(key)
                targets[place] = found[key]
                before[found[key]].add(number)
            rows.append(np.where(units.never, DEAD, targets[units.shape_of]))
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
            raise _error(
                self.expression,
                "the text begins with a space, since the seed ends with a word; begin the "
                "expression with a space, or end the seed with one",
            )
        if distance >= NEVER:
            raise _error(self.expression, "the model's vocabulary has no text that matches")
        if distance > length:
            raise _error(
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
