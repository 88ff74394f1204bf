"""A model as a file of another program."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from charlstm.api import LanguageModel
from charlstm.errors import UsageError
from charlstm.exchange import pytorch, safetensors
from charlstm.exchange.description import Description
from charlstm.exchange.graph import serialised
from charlstm.exchange.safetensors import File
from charlstm.nn.model import Model
from charlstm.report.alive import alive_page
from charlstm.storage.files import replacing
from charlstm.storage.lock import Path_

Parts = Iterable[bytes | memoryview]
"""The bytes of a file, in parts."""


def _network(language: LanguageModel) -> Model:
    if not isinstance(language.model, Model):
        raise UsageError("a mixture is no single network; export the models that it is made of")
    return language.model


def _texts(language: LanguageModel) -> dict[str, str]:
    return Description(language.checkpoint.config, language.vocabulary).to_texts()


def _packed(file: File, digest: bool) -> Parts:
    try:
        return [*safetensors.pack(file, digest)]
    except safetensors.Refused as e:
        raise UsageError(f"a safetensors file cannot hold the model: {e}") from None


def to_safetensors(language: LanguageModel) -> Parts:
    """Under the names and in the shapes of a checkpoint, with a digest."""
    return _packed(File(dict(_network(language).weights), _texts(language)), digest=True)


def to_torch(language: LanguageModel) -> Parts:
    """Under PyTorch's names; without a digest, so that it may be trained there and saved again."""
    return _packed(File(pytorch.named(_network(language)), _texts(language)), digest=False)


def to_onnx(language: LanguageModel) -> Parts:
    """A graph; see `charlstm.exchange.graph`."""
    return [serialised(_network(language), _texts(language))]


def to_json(language: LanguageModel) -> Parts:
    """Plain numbers, under the names and in the shapes of a checkpoint."""
    model, config = _network(language), language.checkpoint.config
    v = language.vocabulary
    document = {
        "charlstm": 1,
        "unit": v.unit,
        "normalize": v.normalize,
        "vocabulary": v.units,
        "counts": v.counts.tolist(),
        "config": config.to_dict(),
        "cell": model.cell.name,
        "gates": model.cell.gates,
    }
    yield json.dumps(document, ensure_ascii=False)[:-1].encode() + b', "weights": '
    for k, (name, array) in enumerate(model.weights.items()):
        yield (f"{', ' if k else '{'}{json.dumps(name)}: {json.dumps(array.tolist())}").encode()
    yield b"}}\n"


def to_html(language: LanguageModel, *, lang: str = "en", title: str = "A model") -> Parts:
    """A page in which the model runs; `lang` is the language in which it opens."""
    return [alive_page(language, lang=lang, title=title).encode()]


FORMATS: dict[str, Callable[..., Parts]] = {
    "safetensors": to_safetensors,
    "torch": to_torch,
    "onnx": to_onnx,
    "json": to_json,
    "html": to_html,
}
"""What writes each format. `charlstm.cli.export` has their names, too, for --help."""


def parts(language: LanguageModel, to: str, **options: str) -> Parts:
    """The file that `export_model` writes."""
    if to not in FORMATS:
        raise UsageError(f"{to!r} is no format of an export; known are {', '.join(FORMATS)}")
    return FORMATS[to](language, **options)


def export_model(
    language: LanguageModel, path: Path_, to: str, *, force: bool = False, **options: str
) -> None:
    """Write a model's weights in use, with its vocabulary and configuration, in one of `FORMATS`.
    A page, `html`, has the options `lang`, "en" or "ko", and `title`.

    Raises `UsageError` for another format, where a file exists at the path, unless it is to be
    replaced (`force`), and where a package is missing; `OutputError` where it cannot be written.
    """
    if Path(path).exists() and not force:
        raise UsageError(f"{path} exists; replace it (--force) or write to another file (-o FILE)")
    made = parts(language, to, **options)
    with replacing(path) as file:
        for part in made:
            file.write(part)
