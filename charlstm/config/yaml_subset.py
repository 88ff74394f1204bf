"""The YAML that configurations are written in: mappings, lists and scalars.

Numbers are those of YAML 1.2: `1e-3` is a number and `no` is a word. There are no anchors, aliases
or tags. The parser reads events and constructs nothing, so neither nesting nor aliases blow up.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from charlstm.errors import ConfigError

MAX_BYTES = 64 * 1024
"""Bytes of a document in UTF-8. The longest configuration that ships has a tenth of them."""

MAX_DEPTH = 8
"""Collections inside each other. A configuration needs three."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Node(NamedTuple):
    """A YAML value with its line, and that of its key; mappings hold nodes, lists plain values."""

    value: Any
    line: int
    key_line: int = 0


def quoted(value: Any) -> str:
    """A value in quotes for a message, shortened where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."


def quoted_if_odd(name: str) -> str:
    """A name as it was written, unless that would break or swell the line."""
    return name if name.isprintable() and len(name) <= 60 else quoted(name)


def parse(text: str, name: str) -> Node:
    """The one document in `text`; null where there is none. `name` is for messages."""
    try:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise _SubsetError(0, f"a configuration has at most {MAX_BYTES // 1024} KiB")
        events = _events(text)
        roots = [_node(event, events) for event in events]
        return roots[0] if roots else Node(None, 1)
    except _SubsetError as e:
        line, message = e.args
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line, message = mark.line + 1 if mark else 0, f"not valid YAML: {e.problem or e.context}"
    except yaml.YAMLError as e:
        line, message = 0, f"not valid YAML: {str(e).splitlines()[0]}"
    raise ConfigError(f"{name}:{line}: {message}" if line else f"{name}: {message}")


class _SubsetError(Exception):
    """A line, or 0, and what is wrong there."""


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1  # type: ignore[union-attr]


def _events(text: str) -> Iterator[yaml.Event]:
    """Scalars, and the beginnings and ends of collections, in one document."""
    documents, depth = 0, 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _SubsetError(line, "expected one document, not several")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _SubsetError(line, "anchors and aliases are not supported")
        elif tag := getattr(event, "tag", None):
            raise _SubsetError(line, f"tags such as {quoted_if_odd(tag)} are not supported")
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _SubsetError(line, "nested too deeply")
            yield event


def _node(event: yaml.Event, events: Iterator[yaml.Event]) -> Node:
    """The value that begins with an event; its other events come from `events`."""
    if isinstance(event, yaml.ScalarEvent):
        return Node(_scalar(event), _line(event))
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_node(item, events).value)
        return Node(items, _line(event))
    mapping: dict[str, Node] = {}
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        if not isinstance(key, yaml.ScalarEvent):
            raise _SubsetError(_line(key), "a key must be a word")
        if key.value in mapping:
            raise _SubsetError(_line(key), f"the key {quoted(key.value)} stands here twice")
        mapping[key.value] = _node(next(events), events)._replace(key_line=_line(key))
    return Node(mapping, _line(event))


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style is not None:  # in quotes
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
