"""Models over single letters, for tests of generation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from generating import generate
from numpy.typing import NDArray

from charlstm.generation.choose import Chooser
from charlstm.generation.numbers import Numbers, StreamNumbers
from charlstm.generation.sampler import Piece
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.text.units import Characters, code_points
from charlstm.text.vocabulary import Vocabulary

Array = NDArray[Any]


LETTERS = "\n abcde"


every_cell = pytest.mark.parametrize("cell", list(CELLS))


def make(
    cell: str = "lstm",
    letters: str = LETTERS,
    layers: int = 1,
    scale: float = 1.0,
    **family: Any,
) -> Model:
    """A model with weights at random, over single letters."""
    model = Model(Shape(cell, len(letters), 6, layers, **family), np.float64)
    rng = np.random.default_rng(3)
    model.weights.flat[...] = rng.normal(0, scale, model.weights.flat.shape)
    return model


def vocabulary(letters: str = LETTERS, counts: list[int] | None = None) -> Vocabulary:
    """A vocabulary of these letters, which are in order."""
    assert sorted(letters) == list(letters)
    return Characters(code_points(letters), np.array(counts or [1] * len(letters)))


def texts(pieces: list[Piece], count: int = 1) -> list[str]:
    """The text of each sample."""
    return ["".join(p.text for p in pieces if p.sample == k) for k in range(count)]


def sample(model: Model, seed: str = "", rng_seed: int = 0, **options: Any) -> str:
    """One sample's text."""
    v = vocabulary()
    key = rng_seed
    return texts(list(generate(model, v, v.encode(seed), key, **options)))[0]


def chooser_of(
    count: int, V: int, key: int, first: int = 0, **options: Any
) -> tuple[Chooser, StreamNumbers]:
    """What draws for the samples from number `first` on, and its random numbers."""
    numbers = StreamNumbers(count, Numbers(key))
    for k in range(count):
        numbers.begin(k, first + k)
    return Chooser(count, V, **options), numbers


def cycle(letters: str) -> Model:
    """A model that goes through its letters for ever, each after the one before."""
    V = len(letters)
    model = Model(Shape("rnn", V, V), np.float64)
    w = model.weights
    w["layer0.Wx"][0] = 10 * (2 * np.eye(V) - 1)
    w["Wy"][...] = 100 * np.roll(np.eye(V), 1, axis=0)
    return model


def choose(y: Array, temperature: float, top_k: int, top_p: float, numbers: Array) -> Array:
    """One draw for each row of y."""
    K, V = y.shape
    chooser = Chooser(K, V, temperature=temperature, top_k=top_k, top_p=top_p)
    return chooser(y, numbers)


def draw(y: Array, n: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Array:
    """How often each id is drawn in n draws."""
    ids = choose(np.tile(y, (n, 1)), temperature, top_k, top_p, np.random.default_rng(1).random(n))
    assert ids.shape == (n,)
    return np.bincount(ids, minlength=len(y))
