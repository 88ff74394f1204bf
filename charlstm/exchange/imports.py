"""A model from a safetensors file, as a checkpoint that can be trained on."""

import os

import numpy as np

from charlstm.api import LanguageModel
from charlstm.config.schema import Config
from charlstm.errors import CheckpointError, UsageError
from charlstm.exchange.description import (
    Description,
    config_of,
    foreign,
    listed,
    vocabulary_of,
)
from charlstm.exchange.recognise import Arrays, recognised
from charlstm.exchange.safetensors import Refused, shown, unpack
from charlstm.nn.model import Model
from charlstm.storage.checkpoint import Checkpoint, network_shape, snapshot_groups
from charlstm.storage.lock import Path_
from charlstm.storage.progress import NO_TEXT, Progress
from charlstm.text.reading import Reading, name_of, read_bytes
from charlstm.training.resume import environment
from charlstm.training.saving import writing


def import_model(
    path: Path_,
    output: Path_ | None = None,
    *,
    vocabulary: Path_ | None = None,
    force: bool = False,
) -> LanguageModel:
    """Read a model from a safetensors file (or "-", standard input): one that charlstm exported, or
    one in PyTorch's names. Write it to `output`, if that is given.

    `vocabulary` is a file with the units in the order of their ids: the characters themselves or,
    where its name ends in .json, a list of units, or an object with their ids. It is for files that
    have none of their own.

    The optimizer is fresh, and the corpus is not known: `train --resume` begins a run with these
    weights. Raises `UsageError` for a missing file, and for an output that exists, unless it is to
    be replaced (`force`); `CheckpointError` for a file that is damaged, or no such model.
    """
    if output is None:
        return LanguageModel(_read(path, vocabulary))
    with writing(output, force=force) as file:
        checkpoint = _read(path, vocabulary)
        file.write(checkpoint, last=True)
    return LanguageModel(checkpoint)


def _read(path: Path_, vocabulary: Path_ | None) -> Checkpoint:
    """The checkpoint that a file makes."""
    try:
        model, texts, config = _weights(path)
        V = model.V
        if config is not None:
            if vocabulary is not None:
                what = f"{name_of(path)} has a vocabulary of its own"
                raise UsageError(f"{what}; leave --vocabulary out")
            return _checkpoint(Description(config, vocabulary_of(texts, config, V)), model)
    except Refused as e:
        raise CheckpointError(f"{name_of(path)}: {e}") from None
    if vocabulary is None:
        what = f"{name_of(path)}: has no vocabulary of its {V:,} units"
        raise CheckpointError(f"{what}; give one with --vocabulary FILE")
    data = _contents(vocabulary)
    try:
        units = listed(data, os.fspath(vocabulary).endswith(".json"), V)
        description, order = foreign(units, model.shape)
    except Refused as e:
        raise CheckpointError(f"{name_of(vocabulary)}: {e}") from None
    same = order == list(range(V))
    return _checkpoint(description, model if same else model.reordered(order))


def _weights(path: Path_) -> tuple[Model, dict[str, str], Config | None]:
    """The network in a file, the texts with it and, where it is an export, its configuration. The
    bytes of the file are gone afterwards."""
    arrays, texts = unpack(_contents(path))
    config = config_of(texts)
    if config is not None and "by" in arrays:
        if "sha256" not in texts:
            raise Refused("it has the names of a checkpoint without a digest")
        return _own(arrays, config), texts, config
    return recognised(arrays, config), texts, config


def _contents(path: Path_) -> bytearray:
    data = bytearray()
    for block in read_bytes(path, Reading()):
        data += block
    return data


def _own(arrays: Arrays, config: Config) -> Model:
    """The network whose weights have the names of a checkpoint."""
    shape = network_shape(config, len(arrays["by"]))
    surplus = sorted(arrays.keys() - shape.weights.keys())
    if surplus:
        raise Refused(f"{shown(surplus[0])} is not a weight of its configuration")
    for name, size in shape.weights.items():
        if name not in arrays:
            raise Refused(f"{name} is missing")
        if arrays[name].shape != size:
            raise Refused(f"{name} has the shape {arrays[name].shape}, not {size}")
    model = Model(shape)
    for name, w in model.weights.items():
        w[...] = arrays[name]
    return model


def _checkpoint(description: Description, model: Model) -> Checkpoint:
    """A checkpoint before its first step. Its vectors share memory: nothing changes them."""
    config, flat = description.config, model.weights.flat
    zeros, t = np.zeros_like(flat), config.train
    vectors = {
        group: zeros if group.startswith("optimizer/") else flat
        for group in snapshot_groups(config)
    }
    random = np.random.default_rng(t.rng_seed).bit_generator.state
    return Checkpoint(
        vectors,
        model.zero_state(t.batch),
        Progress(corpus=NO_TEXT, environment=environment(), ranks=1, random=random),
        config=config,
        vocabulary=description.vocabulary,
        best=flat,
    )
