"""Regular expressions: from text to a tree.

Understood are literals, `.`, classes such as [a-z] and [^,], `*`, `+`, `?`, {m}, {m,}, {,n}, {m,n},
`|`, groups, \\d, \\w, \\s and their capitals, and escapes such as \\t, \\xhh and \\uhhhh, all as in
Python's `re`; and in a class the named ones of POSIX, such as [:digit:]. Anything else is an error
that names it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from charlstm.errors import UsageError

MAX_STATES = 20_000
"""An automaton with more states is refused, and so are more repetitions."""

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

NAMED = _CLASSES | _POSIX

_SIGNS: dict[str, tuple[int, int | None] | None] = {
    "*": (0, None),
    "+": (1, None),
    "?": (0, 1),
    "{": None,
}
"""Signs of repetition, with the least and the most; None where these follow."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


class Character(NamedTuple):
    """A character of a set."""

    of: Set


class Concatenation(NamedTuple):
    """One after the other."""

    parts: "list[Node]"


class Alternation(NamedTuple):
    """One of several."""

    parts: "list[Node]"


class Repetition(NamedTuple):
    """From `least` to `most` times; None is without a limit."""

    part: "Node"
    least: int
    most: int | None


Node = Character | Concatenation | Alternation | Repetition


def error(expression: str, what: str) -> UsageError:
    shown = expression if len(expression) <= SHOWN else expression[:SHOWN] + "…"
    return UsageError(f"--match '{shown}': {what}")


class Parser:
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
                parts.append(Concatenation(sequence))
                sequence = []
            elif self.peek() == ")":
                if not opened:
                    raise self.error("a parenthesis is closed that was not opened")
                self.at += 1
                group = self.any_of([*parts, Concatenation(sequence)])
                _, parts, sequence = opened.pop()
                sequence.append(self.repeated(group))
            else:
                sequence.append(self.repeated(self.atom()))
        if opened:
            raise self.error("a parenthesis is not closed", opened[-1][0])
        return self.any_of([*parts, Concatenation(sequence)])

    @staticmethod
    def any_of(parts: list[Node]) -> Node:
        """One of some sequences; without a node of its own where there is one."""
        if len(parts) > 1:
            return Alternation(parts)
        (only,) = parts
        return only.parts[0] if isinstance(only, Concatenation) and len(only.parts) == 1 else only

    def error(self, what: str, at: int | None = None) -> UsageError:
        return error(self.text, f"{what}, at position {self.at if at is None else at}")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def repeated(self, node: Node) -> Node:
        """A node with the repetition that follows it, where one does."""
        sign = self.peek()
        if sign not in _SIGNS:
            return node
        self.at += 1
        node = Repetition(node, *(_SIGNS[sign] or self.limits(self.at - 1)))
        if self.peek() in _SIGNS:
            raise self.error(f"{self.peek()!r} after a repetition is not supported")
        return node

    def limits(self, begin: int) -> tuple[int, int | None]:
        """The least and the most in braces, after the opening one."""
        numbers, closed, _ = self.text[self.at :].partition("}")
        least, comma, most = numbers.partition(",")
        given = [n for n in (least, most) if n]
        if not closed or not given or not all(n.isascii() and n.isdigit() for n in given):
            raise self.error("expected {m}, {m,}, {,n} or {m,n}", begin)
        if any(len(n) > len(str(MAX_STATES)) or int(n) > MAX_STATES for n in given):
            raise self.error(f"more than {MAX_STATES} repetitions are not supported", begin)
        self.at += len(numbers) + 1
        low = int(least or 0)
        high = low if not comma else int(most) if most else None
        if high is not None and high < low:
            raise self.error("the limits of the repetition are in the wrong order", begin)
        return low, high

    def atom(self) -> Node:
        begin, c = self.at, self.peek()
        self.at += 1
        if c == "[":
            return Character(self.set(begin))
        if c == ".":
            self.between("\n", "\n")
            return Character(lambda c: c != "\n")
        if c in _SIGNS:
            raise self.error(f"nothing stands before {c!r} to be repeated", begin)
        if c in "^$":
            raise self.error(f"{c!r} is not supported: the whole text is matched anyway", begin)
        if c == "\\":
            found = self.escape(begin)
            return Character(self.only(found) if isinstance(found, str) else found)
        return Character(self.only(c))

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
