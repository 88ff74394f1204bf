"""Regular expressions over a vocabulary: which units can still lead to a match.

An expression becomes a nondeterministic automaton over characters (K. Thompson, Regular expression
search algorithm, 1968) and that a deterministic one over the units of a vocabulary (M. Rabin,
D. Scott, Finite automata and their decision problems, 1959), in which every state knows how many
units a match is away. A unit is allowed where, with what is left of the length, a match can follow.

Understood are literals, `.`, classes such as [a-z] and [^,], `*`, `+`, `?`, {m}, {m,}, {m,n}, `|`,
groups, \\d, \\w, \\s and their capitals, and escapes such as \\t, \\xhh and \\uhhhh, all as in
Python's `re`; anything else is named in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from charlstm.arrays import Array
from charlstm.errors import UsageError
from charlstm.vocabulary import UNK, Vocabulary

MAX_STATES = 20_000
"""An automaton with more states than this is refused."""

MAX_TABLE = 50_000_000
"""So are more states times units than this."""

NEVER = 1 << 30
"""More units than any text has: the way to a match where there is none."""

DEAD = 0
"""The state from which no match can be reached."""

Set = Callable[[str], bool]
"""Whether a character belongs."""

_CLASSES: dict[str, Set] = {
    "d": str.isdecimal,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
}
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


class _Parser:
    """Recursive descent over an expression."""

    def __init__(self, expression: str) -> None:
        self.text, self.at = expression, 0

    def parse(self) -> Node:
        node = self.alternatives()
        if self.at < len(self.text):
            raise self.error("a parenthesis is closed that was not opened")
        return node

    def error(self, what: str, at: int | None = None) -> UsageError:
        place = self.at if at is None else at
        return UsageError(f"--match {self.text!r}: {what}, at position {place}")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def alternatives(self) -> Node:
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else _Any(parts)

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom()))
        return _All(parts)

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
            if not closed or not least or not all(n.isascii() and n.isdigit() for n in limits):
                raise self.error("expected {m}, {m,} or {m,n}", begin)
            self.at += len(numbers) + 1
            low = int(least)
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
        if c == "(":
            if self.take("?") and not self.take(":"):
                raise self.error(f"(?{self.peek()} is not supported", begin)
            node = self.alternatives()
            if not self.take(")"):
                raise self.error("a parenthesis is not closed", begin)
            return node
        if c == "[":
            return _One(self.set(begin))
        if c == ".":
            return _One(lambda c: c != "\n")
        if c in "*+?{":
            raise self.error(f"nothing stands before {c!r} to be repeated", begin)
        if c in "^$":
            raise self.error(f"{c!r} is not supported: the whole text is matched anyway", begin)
        if c == "\\":
            found = self.escape(begin)
            return _One(_is(found) if isinstance(found, str) else found)
        return _One(_is(c))

    def escape(self, begin: int) -> str | Set:
        """What follows a backslash: a character, or a set."""
        c = self.peek()
        self.at += 1
        if c.lower() in _CLASSES and c:
            of = _CLASSES[c.lower()]
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

        def of(c: str) -> bool:
            found = any(low <= c <= high for low, high in ranges) or any(s(c) for s in sets)
            return found != negative

        return of

    def member(self) -> str | Set:
        begin, c = self.at, self.peek()
        self.at += 1
        return self.escape(begin) if c == "\\" else c


def _is(character: str) -> Set:
    return character.__eq__


class _Nfa:
    """An automaton whose states have edges with a set, and edges without, which cost nothing."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.free: list[list[int]] = []
        self.edges: list[list[tuple[int, int]]] = []  # (place of the set, state after it)
        self.sets: list[Set] = []
        self.accept = self.state()
        self.start = self.add(_Parser(expression).parse(), self.accept)

    def state(self) -> int:
        if len(self.free) == MAX_STATES:
            raise UsageError(f"--match {self.expression!r}: is too large; repeat less")
        self.free.append([])
        self.edges.append([])
        return len(self.free) - 1

    def add(self, node: Node, after: int) -> int:
        """Add what matches a node and then goes on at `after`; return where it begins."""
        if isinstance(node, _One):
            begin = self.state()
            self.edges[begin].append((len(self.sets), after))
            self.sets.append(node.of)
            return begin
        if isinstance(node, _All):
            for part in reversed(node.parts):
                after = self.add(part, after)
            return after
        if isinstance(node, _Any):
            begin = self.state()
            self.free[begin] += [self.add(part, after) for part in node.parts]
            return begin
        if node.most is None:
            again = self.state()
            self.free[again] += [self.add(node.part, again), after]
            after = again
        else:
            end = after
            for _ in range(node.most - node.least):
                begin = self.state()
                self.free[begin] += [self.add(node.part, after), end]
                after = begin
        for _ in range(node.least):
            after = self.add(node.part, after)
        return after

    def closure(self, states: set[int]) -> frozenset[int]:
        """The states with all that are reached from them for nothing."""
        found, todo = set(states), list(states)
        while todo:
            for state in self.free[todo.pop()]:
                if state not in found:
                    found.add(state)
                    todo.append(state)
        return frozenset(found)


class Matcher:
    """A regular expression over the units of a vocabulary (V): it matches a text as a whole.

    A line end is no part of a match. `table` (S, V) has the state after each unit, `distance` (S,)
    the fewest units to a match.
    """

    def __init__(self, expression: str, vocabulary: Vocabulary) -> None:
        if vocabulary.unit == "byte":
            raise UsageError("--match is for models of characters or words, and this is of bytes")
        self.expression, self.name, V = expression, vocabulary.name, len(vocabulary)
        self.words = vocabulary.unit == "word"
        nfa = _Nfa(expression)
        # characters that belong to the same sets are one, and so are units made of such
        kinds: dict[tuple[bool, ...], int] = {}
        kind_of = {
            c: kinds.setdefault(tuple(s(c) for s in nfa.sets), len(kinds))
            for c in sorted({" ", *"".join(vocabulary.units)})
        }
        members = list(kinds)
        shapes: dict[tuple[int, ...], int] = {}
        shape_of = np.array(
            [shapes.setdefault(tuple(kind_of[c] for c in u), len(shapes)) for u in vocabulary.units]
        )
        never = [
            u in (UNK, "\n") or i == vocabulary.line_end for i, u in enumerate(vocabulary.units)
        ]
        if self.words:
            never[1] = True
        steps: dict[tuple[frozenset[int], int], frozenset[int]] = {}

        def after(states: frozenset[int], shape: Sequence[int]) -> frozenset[int]:
            for kind in shape:
                key = states, kind
                if key not in steps:
                    belongs = members[kind]
                    steps[key] = nfa.closure(
                        {end for state in states for of, end in nfa.edges[state] if belongs[of]}
                    )
                states = steps[key]
            return states

        # a state is a set of the other automaton's, and whether a space is to come before a word
        start = nfa.closure({nfa.start})
        found = {(frozenset[int](), False): DEAD, (start, False): 1}
        if self.words:
            found[start, True] = 2
        rows, todo = [np.zeros(V, np.int32)], list(found)[1:]
        for states, spaced in todo:  # which grows on the way
            targets = np.empty(len(shapes), np.int32)
            for shape, place in shapes.items():
                reached = after(states, (kind_of[" "], *shape) if spaced else shape)
                key = reached, self.words and bool(reached)
                if key not in found:
                    if len(found) == MAX_STATES or len(found) * V > MAX_TABLE:
                        raise UsageError(f"--match {expression!r}: is too large; repeat less")
                    found[key] = len(found)
                    todo.append(key)
                targets[place] = found[key]
            rows.append(np.where(never, DEAD, targets[shape_of]))
        self.table = np.array(rows)
        self.accepting = np.array([nfa.accept in states for states, _ in found])
        self.distance = np.where(self.accepting, 0, NEVER)
        while True:
            nearer = np.minimum(self.distance, self.distance[self.table].min(axis=1) + 1)
            if (nearer == self.distance).all():
                break
            self.distance = nearer
        self.line_end = vocabulary.line_end

    def start(self, before: str, length: int) -> int:
        """The state before a text that continues `before`. Raises `UsageError` where no text of at
        most `length` units matches."""
        state = 2 if self.words and before and not before[-1].isspace() else 1
        distance = self.distance.item(state)
        if distance >= NEVER:
            raise UsageError(
                f"--match {self.expression!r}: the model's vocabulary has no text that matches"
            )
        if distance > length:
            raise UsageError(
                f"--match {self.expression!r}: a match has at least {distance} {self.name}s; "
                f"give --length {distance} or more"
            )
        return state

    def allowed(self, states: Array, left: Array) -> Array:
        """Which units (K, V) may come in states (K,), where `left` (K,) more may: those after which
        a match can follow, and the line end, which ends a text, where it matches."""
        allowed: Array = self.distance[self.table[states]] < left[:, None]
        if self.line_end is not None:
            allowed[:, self.line_end] = self.accepting[states] & (left > 0)
        return allowed
