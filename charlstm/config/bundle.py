"""The configurations that ship with the package, and the schema by which editors check them.

A shell asks for them at every TAB, so nothing else is imported here.
"""

import os

AUTO = "auto"
"""The name of the configuration that `train` chooses by itself."""

SCHEMA = "schema.json"
"""The JSON Schema, draft 7, of a configuration. `python tests/docs.py` writes it."""


def folder() -> str:
    """Where all of it is."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "configs")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "configs")


def bundled() -> dict[str, str]:
    """The files of the configurations that ship, by name."""
    names = sorted(
        name for name, end in map(os.path.splitext, os.listdir(folder())) if end == ".yaml"
    )
    return {name: os.path.join(folder(), f"{name}.yaml") for name in names}


def read(file: str) -> str:
    """The text of a file that ships."""
    with open(file, encoding="utf-8") as opened:
        return opened.read()


def schema() -> str:
    """The text of the schema."""
    return read(os.path.join(folder(), SCHEMA))


def summaries() -> dict[str, str]:
    """What each configuration is: the line below the one that editors read. The last one is
    `auto`, which is no file."""
    lines = {name: read(file).splitlines()[1] for name, file in bundled().items()}
    auto = "No file: what train chooses for the text, the machine and the time."
    return {name: line.removeprefix("# ") for name, line in lines.items()} | {AUTO: auto}
