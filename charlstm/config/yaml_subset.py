"""The YAML that configurations are written in: mappings, lists and scalars."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from charlstm.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8


def shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."


def named(name: str) -> str:
    """A name as it was written, unless that would break or swell the line."""
    return name if name.isprintable() and len(name) <= 60 else shown(name)


_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Node(NamedTuple):
    """A YAML value with its line, and that of its key; mappings hold nodes, lists plain values."""

    value: Any
    line: int
    key_line: int = 0


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def parse(text: str, name: str) -> Node:
    """The one document in `text`. Reads events, not objects: nothing is constructed by a tag, and
    neither nesting nor aliases can blow up."""

    def fail(line: int, message: str) -> ConfigError:
        return ConfigError(f"{name}:{line}: {message}" if line else f"{name}: {message}")

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise fail(0, f"a configuration has at most {MAX_BYTES // 1024} KiB")
    root: Node | None = None
    # open collections: (its line, the collection, the key that waits for its value)
    stack: list[tuple[int, dict[str, Node] | list[Any], Node | None]] = []
    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1  # type: ignore[union-attr]
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise fail(line, "expected one document, not several")
                continue
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise fail(line, "anchors and aliases are not supported")
            tag = getattr(event, "tag", None)
            if tag:
                raise fail(line, f"tags such as {named(tag)} are not supported")
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(stack) == MAX_DEPTH:
                    raise fail(line, "nested too deeply")
                if stack and isinstance(stack[-1][1], dict) and stack[-1][2] is None:
                    raise fail(line, "a key must be a word")
                mapping = isinstance(event, yaml.MappingStartEvent)
                stack.append((line, {} if mapping else [], None))
                continue
            if isinstance(event, yaml.ScalarEvent):
                if stack and isinstance(stack[-1][1], dict) and stack[-1][2] is None:
                    at, mapping_, _ = stack[-1]
                    if event.value in mapping_:
                        raise fail(line, f"the key {shown(event.value)} stands here twice")
                    stack[-1] = (at, mapping_, Node(event.value, line))
                    continue
                node = Node(_scalar(event), line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                at, collection, _ = stack.pop()
                node = Node(collection, at)
            else:
                continue
            if not stack:
                root = node
            else:
                at, parent, key = stack[-1]
                if isinstance(parent, list):
                    parent.append(node.value)
                else:
                    assert key is not None
                    parent[key.value] = Node(node.value, node.line, key.line)
                    stack[-1] = (at, parent, None)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise fail(
            mark.line + 1 if mark else 0, f"not valid YAML: {e.problem or e.context}"
        ) from None
    except yaml.YAMLError as e:
        raise fail(0, f"not valid YAML: {str(e).splitlines()[0]}") from None
    return root or Node(None, 1)
