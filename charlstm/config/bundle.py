"""The configurations that ship with the package, and the schema by which editors check them."""

from pathlib import Path

AUTO = "auto"
"""The name of the configuration that `train` chooses by itself."""

SCHEMA = "schema.json"
"""The JSON Schema, draft 7, of a configuration. `python tests/docs.py` writes it."""


def folder() -> Path:
    """Where all of it is."""
    inside = Path(__file__).parents[1] / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"  # a checkout


def bundled() -> dict[str, Path]:
    """The configurations that ship, by name."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"), key=lambda p: p.stem)}


def summaries() -> dict[str, str]:
    """What each configuration is: the line below the one that editors read. The last one is
    `auto`, which is no file."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in bundled().items()}
    lines = {name: text.splitlines()[1].removeprefix("# ") for name, text in texts.items()}
    return lines | {AUTO: "No file: what train chooses for the text, the machine and the time."}


def own(path: Path) -> str:
    """The text of a bundled configuration for a file elsewhere: its first line leads editors to
    the schema of this installation."""
    schema = folder() / SCHEMA
    return path.read_text(encoding="utf-8").replace(f"={SCHEMA}", f"={schema.as_uri()}", 1)
