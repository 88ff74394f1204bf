"""What a shell offers for a value that is being typed, by its kind."""

import json
import os
from collections.abc import Iterator
from typing import Any

from click.shell_completion import CompletionItem

from charlstm.config.bundle import AUTO, schema, summaries

Items = list[CompletionItem]


def files(begun: str) -> Items:
    """Any file; the shell itself knows them."""
    return [CompletionItem(begun, type="file")]


def models(begun: str) -> Items:
    """Checkpoints by their usual ending, and folders, where others may be."""
    head = os.path.dirname(begun)
    try:
        names = sorted(name for name in os.listdir(head or ".") if name.endswith(".npz"))
    except OSError:
        names = []
    shown = names if os.path.basename(begun) else [n for n in names if not n.startswith(".")]
    paths = [os.path.join(head, name) for name in shown]
    folders = CompletionItem(begun, type="dir")
    return [folders, *(CompletionItem(path) for path in paths if path.startswith(begun))]


def names(begun: str) -> Items:
    """The configurations that ship."""
    return [
        CompletionItem(name, help=text)
        for name, text in summaries().items()
        if name.startswith(begun) and name != AUTO
    ]


def configurations(begun: str) -> Items:
    """The configurations that ship, `auto`, and files."""
    offered = [CompletionItem(n, help=t) for n, t in summaries().items() if n.startswith(begun)]
    return [*files(begun), *offered]


def settings(begun: str) -> Items:
    """The keys of the configuration and, behind the equals sign, the words among their values."""
    sections = json.loads(schema())["properties"]
    keys = {
        f"{section}.{name}": values
        for section, keys in sections.items()
        for name, values in keys["properties"].items()
    }
    key, equals, _ = begun.partition("=")
    if equals:
        whole = [f"{key}={word}" for word in words(keys.get(key, {}))]
        return [CompletionItem(setting) for setting in whole if setting.startswith(begun)]
    return [
        CompletionItem(f"{key}=", help=values["description"])
        for key, values in keys.items()
        if key.startswith(begun)
    ]


def words(values: dict[str, Any]) -> Iterator[str]:
    """The words among the values that a schema takes."""
    yield from values.get("enum", ())
    yield from {"boolean": ("true", "false"), "null": ("null",)}.get(values.get("type", ""), ())
    for inner in values.get("anyOf", ()):
        yield from words(inner)
