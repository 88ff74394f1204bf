"""Section 1: what a model is, how well it guesses, and how to make it again."""

import dataclasses
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from charlstm.api import LanguageModel
from charlstm.config.schema import Config
from charlstm.text.visible import harmless
from charlstm.text.vocabulary import Vocabulary


def overview(languages: Mapping[str, LanguageModel], text: str = "") -> dict[str, Any]:
    """The facts about the first of some models, by its name, and the text that the report shows:
    one of those in `charlstm.report.passage`. Costs are bits per unit; those of the other models
    are listed where they held out the same text."""
    (name, language), *rest = languages.items()
    checkpoint, v, p = language.checkpoint, language.vocabulary, language.checkpoint.progress
    t, m, best = checkpoint.config.train, checkpoint.config.model, p.in_use
    return {
        "name": harmless(name),
        "unit": v.unit,
        "text": text,
        "costs": {
            "guessing": math.log2(len(v)),
            "counting": counting(v),
            "model": None if best is None else best.nats / math.log(2),
            "others": [*beside(dict(rest), p.corpus.sha256)],
        },
        "network": {
            "cell": m.cell,
            "hidden": list(model_widths(checkpoint.config)),
            "embedding": m.embedding,
            "tied": m.tie,
            "weights": len(checkpoint.best),
        },
        "vocabulary": len(v),
        "corpus": {"train": p.corpus.train, "valid": p.corpus.valid},
        "steps": p.step,
        "best_step": None if best is None else best.step,
        "epochs": p.step * p.ranks * t.batch * t.length / p.corpus.train,
        "adapted": p.adapted,
        "environment": {key: harmless(value) for key, value in p.environment.items()},
        "command": command(checkpoint.config, name),
        "sha256": checkpoint.digest,
    }


def beside(languages: Mapping[str, LanguageModel], sha256: str) -> Iterator[dict[str, Any]]:
    """What `overview` says of the models whose corpus has this digest."""
    for name, language in languages.items():
        p, cell = language.checkpoint.progress, language.checkpoint.config.model.cell
        if p.corpus.sha256 == sha256 and p.in_use is not None:
            yield {
                "name": harmless(name),
                "cell": cell,
                "bits": p.in_use.nats / math.log(2),
                "weights": len(language.checkpoint.best),
                "steps": p.step,
            }


def model_widths(config: Config) -> tuple[int, ...]:
    """The width of each layer, the lowest first."""
    m = config.model
    return (m.hidden,) * m.layers if isinstance(m.hidden, int) else tuple(m.hidden)


def counting(vocabulary: Vocabulary) -> float:
    """Bits per unit of whoever knows only how often each unit occurs in the corpus: the entropy
    -sum p log2 p of its shares."""
    counts = vocabulary.counts[vocabulary.counts > 0]
    p = counts / counts.sum()
    return float(-np.sum(p * np.log2(p))) + 0.0


def command(config: Config, name: str) -> str:
    """The command that trains such a model again, by the settings that are not the defaults. The
    corpus, whose name is not in a model, is called CORPUS."""
    changed = []
    for section in ("text", "model", "train"):
        own, usual = (dataclasses.asdict(getattr(c, section)) for c in (config, Config()))
        for key, value in own.items():
            if value != usual[key]:
                shown = json.dumps(value, ensure_ascii=False).strip('"')
                changed.append(f"--set {shlex.quote(f'{section}.{key}={shown}')}")
    file = name if name.endswith(".npz") else f"{name}.npz"
    return harmless(" ".join(["charlstm train CORPUS", *changed, "-o", shlex.quote(file)]))
