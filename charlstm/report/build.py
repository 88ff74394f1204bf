"""The whole report: every section that fits, made one after the other."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from charlstm.api import LanguageModel
from charlstm.errors import UsageError
from charlstm.nn.model import Model
from charlstm.report.alive import alive
from charlstm.report.cells import cells
from charlstm.report.gates import gates
from charlstm.report.learning import Line, learning
from charlstm.report.memory import memory
from charlstm.report.overview import overview
from charlstm.report.page import missing, page
from charlstm.report.passage import EXCERPT, Passage
from charlstm.report.reach import reach
from charlstm.report.recording import longest, record
from charlstm.report.surprise import surprise

BEGINNING = 40
"""Characters of the excerpt, at most, that the living model begins with."""

PACKAGES = {"Jinja2": "jinja2", "matplotlib": "matplotlib"}
"""What a report takes beside the runtime packages: name and module."""


def check_installed() -> None:
    """Raise `UsageError` where a package that a report takes is missing."""
    for package, module in PACKAGES.items():
        if find_spec(module) is None:
            raise missing(package)


def sections(
    languages: Mapping[str, LanguageModel],
    text: str | None = None,
    log: Iterable[Line] | None = None,
    *,
    start: int | None = None,
    length: int = EXCERPT,
) -> Iterator[tuple[str, Any]]:
    """Yield the name of each section and its data, as soon as that is made. The first of the
    models is shown; the others stand beside it where sections compare. Without a text, the first
    model writes one. Raises `UsageError` where a model cannot read it as the first does."""
    first = next(iter(languages.values()))
    check_alike(languages)
    if text is None:
        passage = Passage.generated(first, length)
    else:
        passage = Passage.of(first, text, start, length)
    assert isinstance(first.model, Model)
    yield "overview", overview(languages, passage.source)
    yield "learning", learning(first, log)
    yield "surprise", surprise(first, passage)
    near = passage.narrowed(longest(first.model))
    recording = record(first.model, near.ids(first.vocabulary))
    yield "cells", cells(first, near, recording)
    if first.checkpoint.config.model.cell != "rnn":
        yield "gates", gates(recording)
    del recording
    yield "reach", reach(languages, passage)
    yield "alive", {**alive(first), "seed": beginning(first, passage)}
    yield "memory", memory(languages, passage)
    yield "summary", {}  # by the script, from what is above


def beginning(language: LanguageModel, passage: Passage) -> str:
    """A text for the model to read first: its own seed, or the first words of the excerpt."""
    own = language.config.sample.seed
    line = "".join(passage.shown(language.vocabulary)).strip().partition("\n")[0][:BEGINNING]
    return own or line.rpartition(" ")[0] or line[: BEGINNING // 2]


def check_alike(languages: Mapping[str, LanguageModel]) -> None:
    """Raise `UsageError` for a mixture, and where models cut a text into different units."""
    first = next(iter(languages.values()))
    for name, language in languages.items():
        if not isinstance(language.model, Model):
            raise UsageError(f"{name} is a mixture; report on one of its models")
        v, w = first.vocabulary, language.vocabulary
        if (v.unit, v.normalize) != (w.unit, w.normalize):
            one, other = (f"{x.name}s in normal form {x.normalize}" for x in (v, w))
            raise UsageError(
                f"models are compared on one text: the first reads {one}, {name} {other}"
            )


def report_page(
    languages: Mapping[str, LanguageModel],
    text: str | None = None,
    log: Iterable[Line] | None = None,
    *,
    lang: str = "en",
    title: str | None = None,
    start: int | None = None,
    length: int = EXCERPT,
) -> str:
    """The page of `sections`, as a text of HTML; `title` stands above it, by default the name of
    the first model."""
    made = dict(sections(languages, text, log, start=start, length=length))
    return page(made, lang=lang, title=next(iter(languages)) if title is None else title)
