"""From the tree of an expression to a nondeterministic automaton over characters.

K. Thompson, Regular expression search algorithm, 1968.
"""

from collections.abc import Generator, Sequence
from typing import Any

from charlstm.generation.regex import (
    MAX_STATES,
    Alternation,
    Character,
    Concatenation,
    Node,
    Parser,
    Set,
    error,
)


class Nfa:
    """An automaton whose states have arcs with a set, and arcs without, which cost nothing."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.epsilon: list[list[int]] = []
        self.arcs: list[list[tuple[int, int]]] = []  # (place of the set, state after it)
        self.places: dict[Set, int] = {}
        self.accept = self.state()
        parser = Parser(expression)
        self.start = self.add(parser.parse(), self.accept)
        self.sets = list(self.places)
        self.named, self.edges = parser.named, parser.edges

    def state(self) -> int:
        if len(self.epsilon) == MAX_STATES:
            raise error(self.expression, "is too large; repeat less")
        self.epsilon.append([])
        self.arcs.append([])
        return len(self.epsilon) - 1

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

    def _adding(self, node: Node, after: int) -> Generator[tuple[Node, int], Any, int]:
        """As `add`, but what it needs of other nodes it asks for: it yields a node with what comes
        after it, and is sent where that begins."""
        if isinstance(node, Character):
            return self._arc(node, after)
        if isinstance(node, Concatenation):
            for part in reversed(node.parts):
                after = yield part, after
            return after
        if isinstance(node, Alternation):
            literals, others = _literals(node.parts)
            begin = self._words(literals, after)
            for part in others:
                self.epsilon[begin].append((yield part, after))
            return begin
        if node.most is None:
            again = self.state()
            self.epsilon[again] += [(yield node.part, again), after]
            after = again
        else:
            end = after
            for _ in range(node.most - node.least):
                begin = self.state()
                self.epsilon[begin] += [(yield node.part, after), end]
                after = begin
        for _ in range(node.least):
            after = yield node.part, after
        return after

    def _arc(self, node: Character, after: int) -> int:
        begin = self.state()
        self.arcs[begin].append((self._place(node), after))
        return begin

    def _words(self, words: list[tuple[Character, ...]], after: int) -> int:
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
                    self.epsilon[state] += [after] * accepts
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
        self.epsilon[begin] += [after] * accepts
        return begin

    def _place(self, one: Character) -> int:
        return self.places.setdefault(one.of, len(self.places))

    def closure(self, states: set[int]) -> frozenset[int]:
        """The states with all that are reached from them at no cost."""
        found, todo = set(states), list(states)
        while todo:
            for state in self.epsilon[todo.pop()]:
                if state not in found:
                    found.add(state)
                    todo.append(state)
        return frozenset(found)


def _literals(parts: Sequence[Node]) -> tuple[list[tuple[Character, ...]], list[Node]]:
    """Of alternatives those that are characters and nothing else, and the others."""
    words, others = [], []
    for part in parts:
        ones = part.parts if isinstance(part, Concatenation) else [part]
        if all(isinstance(one, Character) for one in ones):
            words.append(tuple(one for one in ones if isinstance(one, Character)))
        else:
            others.append(part)
    return words, others
