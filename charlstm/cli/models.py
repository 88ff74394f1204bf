"""The models of a command: which they are, and several as one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from charlstm.cli.options import option
from charlstm.cli.streams import notice

if TYPE_CHECKING:
    from charlstm.api import LanguageModel
    from charlstm.config.schema import Setting

mix_option = option("--mix", "Several models as one, whose probabilities are the mean of theirs.")


def model_files(given: Sequence[str], mixed: bool) -> Sequence[str]:
    """The files of the models: those that are given, or the one that the environment or the
    default names. No model comes twice."""
    files = given or (os.environ.get("CHARLSTM_MODEL") or "charlstm.npz",)
    if len(set(files)) < len(files):
        raise click.UsageError("the same model is given twice; name different ones")
    if mixed and len(files) < 2:
        raise click.UsageError("--mix is for two models or more; give an -m for each")
    return files


def load_models(files: Sequence[str], changes: Sequence[Setting]) -> dict[str, LanguageModel]:
    """The models by their files, each with these settings."""
    from charlstm.api import load
    from charlstm.config.schema import check

    check(changes)  # a wrong option is an error before a missing model
    languages = {file: load(file) for file in files}
    for language in languages.values():
        language.configure(changes)
    return languages


def tell_encoding(languages: dict[str, LanguageModel], texts: Iterable[str | None]) -> None:
    """Say whose encoding files among `texts` are read in, where models have different ones."""
    encodings = {language.config.text.encoding for language in languages.values()}
    if len(encodings) > 1 and any(text not in (None, "-") for text in texts):
        notice(f"reading in the encoding of {next(iter(languages))}")


def as_one(languages: dict[str, LanguageModel], texts: Iterable[str | None]) -> LanguageModel:
    """The only model, or all of them mixed, for reading `texts`."""
    from charlstm.mixing import mix

    first, *others = languages.values()
    if not others:
        return first
    mixture = mix([first, *others], list(languages))
    tell_encoding(languages, texts)
    return mixture
