"""charlstm info: what is in a checkpoint."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.options import (
    Rule,
    check_options,
    debug_option,
    model_argument,
    one_model,
    option,
)
from charlstm.cli.streams import check_one_user, loss_at, notice, printable, to_json, write
from charlstm.errors import CheckpointError, UsageError
from charlstm.text.visible import escaped

if TYPE_CHECKING:
    from charlstm.storage.checkpoint import Checkpoint

TO_VERIFY = "--corpus and --valid say what to --verify; give that too"
RULES = (
    Rule("--corpus", ["--verify"], TO_VERIFY, needs=True),
    Rule("--valid", ["--verify"], TO_VERIFY, needs=True),
    Rule("--valid", ["--corpus"], "--valid goes with --corpus; give that too", needs=True),
)


@click.command()
@model_argument("FILE")
@option("--json", "Print one JSON object.")
@option(
    "--gradient-flow FILE",
    "Show how the gradient of a loss on this text falls with the steps it goes back.",
)
@option("--verify", "Only say whether it is whole: exit 0 or 3.")
@option(
    "--corpus FILE",
    "With --verify, also whether it was trained on this text; repeatable, in order.",
    multiple=True,
)
@option("--valid FILE", "The held-out text, where training had --valid.")
@debug_option
def info(**params: Any) -> None:
    """Show what is in a checkpoint: configuration, vocabulary, size, training so far, digest."""
    from charlstm.storage.checkpoint import read_checkpoint

    asked = SimpleNamespace(**params)
    path = one_model(asked.file, asked.model)
    readers = [("-m", path), ("--gradient-flow", asked.gradient_flow), ("--valid", asked.valid)]
    check_one_user("input", [*readers, *(("--corpus", corpus) for corpus in asked.corpus)])
    check_options(RULES, UsageError)
    checkpoint = read_checkpoint(path)
    if asked.verify:
        _verify(path, checkpoint, asked)
    elif asked.gradient_flow is not None:
        _show_flow(checkpoint, asked.gradient_flow, asked.json)
    elif asked.json:
        write(to_json(_document(path, checkpoint)))
    else:
        rows = _rows(path, checkpoint)
        width = max(map(len, rows)) + 2
        write("".join(f"{name:<{width}}{value}\n" for name, value in rows.items()))


def _document(path: str, checkpoint: Checkpoint) -> dict[str, Any]:
    from charlstm.storage.checkpoint import VERSION

    p, vocabulary, best = checkpoint.progress, checkpoint.vocabulary, checkpoint.progress.in_use
    units = _units_trained(checkpoint)
    return {
        "file": printable(path),
        "bytes": checkpoint.size,
        "format": VERSION,
        "sha256": checkpoint.digest,
        "parameters": len(checkpoint.best),
        "unit": vocabulary.unit,
        "vocabulary": vocabulary.listed(),
        "trained": {
            "steps": p.step,
            f"{vocabulary.name}s": units,
            "epochs": units / p.corpus.train,
            "corpus": p.corpus._asdict(),
            "best_step": best[0] if best else None,
            f"best_nats_per_{vocabulary.unit}": best[1] if best else None,
            "history": p.history,
            "rollbacks": p.rollbacks,
            f"adapted_to_{vocabulary.name}s": p.adapted,
        },
        "environment": p.environment,
        "config": checkpoint.config.to_dict(),
    }


def _rows(path: str, checkpoint: Checkpoint) -> dict[str, str]:
    from charlstm.storage.checkpoint import VERSION
    from charlstm.storage.progress import NO_TEXT

    p, vocabulary, best = checkpoint.progress, checkpoint.vocabulary, checkpoint.progress.in_use
    m, name, units = checkpoint.config.model, vocabulary.name, _units_trained(checkpoint)
    corpus = f"{p.corpus.train:,} {name}s trained on, {p.corpus.valid:,} held out"
    rows = {
        "checkpoint": f"{_source(path)} ({checkpoint.size:,} bytes, format {VERSION})",
        "sha256": checkpoint.digest,
        "network": f"{m.cell}, hidden {_shown(m.hidden)}, layers {m.layers}: "
        f"{len(checkpoint.best):,} parameters",
        "vocabulary": f"{len(vocabulary):,} {name}s{vocabulary.shown()}",
        "corpus": "not known: the weights were imported" if p.corpus == NO_TEXT else corpus,
        "trained": f"{p.step:,} steps, {units:,} {name}s, {units / p.corpus.train:.2f} epochs",
        "held-out loss": "none" if best is None else loss_at(*best, name),
    }
    if p.adapted:
        rows["adapted"] = f"weights in use have since learnt from {p.adapted:,} {name}s"
    if p.rollbacks:
        rows["diverged"] = ", ".join(
            f"step {step:,}: {what}; back to step {to:,}" for step, what, to in p.rollbacks
        )
    if p.environment:
        rows["trained with"] = ", ".join(f"{k} {v}" for k, v in p.environment.items())
    for section, keys in checkpoint.config.to_dict().items():
        rows[section] = ", ".join(f"{k} {_shown(v)}" for k, v in keys.items())
    return rows


def _units_trained(checkpoint: Checkpoint) -> int:
    """Units that all ranks have read, those read again included."""
    t, p = checkpoint.config.train, checkpoint.progress
    return p.step * p.ranks * t.batch * t.length


def _source(path: str) -> str:
    return "standard input" if path == "-" else printable(path)


def _verify(path: str, checkpoint: Checkpoint, asked: SimpleNamespace) -> None:
    """Report a checkpoint that could be read as whole, after comparing its corpus with a text."""
    if asked.corpus:
        from charlstm.text.corpus import Corpus

        text, rng_seed = checkpoint.config.text, checkpoint.config.train.rng_seed
        read = Corpus.from_files(asked.corpus, text, asked.valid, notice, rng_seed=rng_seed)
        if read.sha256 != checkpoint.progress.corpus.sha256:
            raise CheckpointError(f"{path}: whole, but not trained on this text")
    if asked.json:
        document = {"file": printable(path), "sha256": checkpoint.digest, "whole": True}
        write(to_json(document | ({"corpus": True} if asked.corpus else {})))
        return
    trained = "trained on this text\n" if asked.corpus else ""
    write(f"{_source(path)}: whole, sha256 {checkpoint.digest}\n{trained}")


def _show_flow(checkpoint: Checkpoint, text: str, as_json: bool) -> None:
    """Show a line for each lag: each norm, and its share of the norm at lag 0."""
    from charlstm.api import LanguageModel, gradient_flow

    language = LanguageModel(checkpoint)
    flow = gradient_flow(language, language.read_blocks(text, notice))
    if as_json:
        write(to_json(flow.to_dict()))
        return
    write("lag" + "".join(f"{name:>12}{'of lag 0':>12}" for name in flow.norms) + "\n")
    firsts = [values[0] for values in flow.norms.values()]
    for lag, norms in enumerate(zip(*flow.norms.values(), strict=True)):
        pairs = zip(norms, firsts, strict=True)
        columns = (f"{x:12.3e}{x / first if first else 0.0:12.3e}" for x, first in pairs)
        write(f"{lag:3}" + "".join(columns) + "\n")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c == "\\" else escaped(c) for c in text)
