"""The JSON Schema, by which editors check a configuration, agrees with the strict reader."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from faults.hostile import mutant_text
from support import fails, run

from charlstm.config.bundle import SCHEMA, bundled, folder, read, schema, summaries
from charlstm.config.schema import KEYS, SECTIONS, check
from charlstm.config.sources import parse_yaml, read_config
from charlstm.config.yaml_subset import parse
from charlstm.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

DOCUMENT = json.loads(schema())
VALIDATOR = jsonschema.Draft7Validator(DOCUMENT)

MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")
"""The line by which editors that speak YAML find the schema of a file."""


def plain(value: Any) -> Any:
    """A document as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(node.value) for key, node in value.items()}
    return value


def refusals(text: str) -> tuple[list[Any], str | None]:
    """What the schema has against a document, and what the reader has."""
    against = list(VALIDATOR.iter_errors(plain(parse(text, "my.yaml").value)))
    try:
        check(parse_yaml(text, "my.yaml"))
    except ConfigError as e:
        return against, str(e)
    return against, None


def unsaid(error: str) -> bool:
    """Whether an error of the reader is one of the two that a schema cannot express: which
    encodings there are, and that 100.0 is no whole number."""
    whole = re.search(r"(whole number|steps).*, got \[?-?[\d., ]*\d\.0\b", error)
    return "text.encoding: " in error or whole is not None


# --- the files that ship -----------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(DOCUMENT)
    sections = DOCUMENT["properties"]
    assert [f"{s}.{key}" for s in SECTIONS for key in sections[s]["properties"]] == list(KEYS)
    for section in sections.values():
        for key in section["properties"].values():
            assert "Expected: " in key["description"]
            jsonschema.validate(key["default"], key)


@pytest.mark.parametrize("name", bundled())
def test_bundled_files_name_their_schema(name: str) -> None:
    """In their first line, and what they are in the second. They agree with the schema."""
    text = read(bundled()[name])
    match = MODELINE.fullmatch(text.splitlines()[0])
    assert match is not None
    assert match[1] == SCHEMA
    assert Path(bundled()[name]).parent == Path(folder())
    assert re.fullmatch(r"[A-Z].{10,99}\.", summaries()[name])
    assert refusals(text) == ([], None)


# --- the schema and the reader -----------------------------------------------------------------

ODD = [
    *(
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "-0.5",
        "-0.0",
        "1e999",
        "-1e999",
        "100.0",
        "1e400",
        "'1'",
        "012",
    ),
    *("true", "False", "null", "~", "", "''", "auto", "none", "a", "no", ".nan", "0x10", "1_000"),
    *("90s", "0s", "0.0h", "1.5m", "10d", "'1s\\n'", '"1s\\n"', "١s", "utf-8", "latin-1", "utf-9"),
    *("[]", "[1]", "[0]", "[-1]", "[1, 2]", "[a]", "['']", "[1.0]", "[true]", "[[1]]", "[null]"),
    *("{}", "{a: 1}", "[{a: 1}]", "9" * 40, "9" * 41, str(2**63), str(2**31)),
]
"""Values as YAML has them, right for some keys and wrong for others."""


def fragments(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all in it."""
    yield values
    for inner in [*values.get("anyOf", []), *filter(None, [values.get("items")])]:
        yield from fragments(inner)


def near(key: str) -> list[str]:
    """The values that a key names, and those at its limits and beside them."""
    values = []
    section, _, name = key.partition(".")
    for part in fragments(DOCUMENT["properties"][section]["properties"][name]):
        values += [str(value) for value in part.get("enum", [])]
        for limit in ("minimum", "exclusiveMinimum", "maximum"):
            if limit in part:
                at, step = part[limit], 1 if part["type"] == "integer" else 1e-7
                values += [str(at), str(at - step), str(at + step), str(at - 1), str(at + 1)]
    return values


def mutant(draw: random.Random) -> str:
    """A configuration of some keys, most of which have values near what they may have."""
    lines = []
    for section in draw.sample([*SECTIONS, "modle", "Text"], draw.choice([1, 1, 2])):
        own = [key for key in KEYS if key.startswith(f"{section}.")] or list(KEYS)
        lines.append(f"{section}:" + draw.choice([""] * 15 + [" 5", " []", " {}", " null"]))
        if lines[-1].endswith(":"):
            for key in draw.sample(own, draw.choice([0, 1, 1, 1, 2])):
                name = key.partition(".")[2] + draw.choice([""] * 30 + ["s", "' '"])
                lines.append(f"  {name}: {draw.choice(near(key) + ODD)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(5))
def test_the_schema_and_the_reader_agree(seed: int) -> None:
    """On 200 mutants each, half of them bundled files with damage: what one refuses the other
    refuses, as far as a schema can say it."""
    draw, verdicts = random.Random(seed), Counter[str]()
    texts = [read(file) for file in bundled().values()]
    while verdicts.total() < 200:
        few = verdicts.total() < 100
        text = mutant(draw) if few else mutant_text(draw.choice(texts), draw)
        try:
            against, error = refusals(text)
        except ConfigError:  # no YAML: neither sees a value
            continue
        if against:
            assert error is not None, (text, against)
            verdicts["both refuse"] += 1
        elif error is None:
            verdicts["both accept"] += 1
        else:
            assert unsaid(error), (text, error)
            verdicts["unsaid"] += 1
    assert min(verdicts["both refuse"], verdicts["both accept"]) > 60, verdicts
    assert verdicts["unsaid"] < 10, verdicts


@pytest.mark.parametrize("key", KEYS)
def test_every_value_of_every_key(key: str) -> None:
    """The odd ones, and those at the limits."""
    section, _, name = key.partition(".")
    for value in near(key) + ODD:
        text = f"{section}:\n  {name}: {value}\n"
        against, error = refusals(text)
        assert bool(against) == (error is not None) or (error and unsaid(error)), (text, error)


# --- the command -------------------------------------------------------------------------------


def test_the_list() -> None:
    """A line for each, and one for `auto`, that begins with the name."""
    process = run("config")
    lines = process.stdout.decode("utf-8").splitlines()
    assert [line.split()[0] for line in lines] == [*bundled(), "auto"]
    for line in lines:
        assert line.endswith(summaries()[line.split()[0]])


@pytest.mark.parametrize("name", bundled())
def test_a_printed_configuration(name: str, tmp_path: Path) -> None:
    """It says the same, and leads editors to the schema from wherever it is."""
    printed = run("config", name).stdout.decode("utf-8")
    first, _, rest = printed.partition("\n")
    assert rest == read(bundled()[name]).partition("\n")[2]
    match = MODELINE.fullmatch(first)
    assert match is not None
    assert Path(url2pathname(urlsplit(match[1]).path)).samefile(Path(folder(), SCHEMA))
    mine = tmp_path / "mine.yaml"
    mine.write_text(printed, encoding="utf-8")
    stated = [setting[:2] for setting in read_config(str(mine))]
    assert stated == [setting[:2] for setting in read_config(name)]


def test_the_schema_is_printed() -> None:
    assert json.loads(run("config", "--schema").stdout) == DOCUMENT


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["auto"], "train chooses it"),
        (["defalt"], "did you mean default?"),
        (["zzzzz"], "charlstm config lists them"),
        (["default", "--schema"], "leave out NAME"),
        (["default", "gru"], "unexpected extra argument"),
    ],
)
def test_no_such_configuration(arguments: list[str], part: str) -> None:
    fails(run("config", *arguments), 2, part)
