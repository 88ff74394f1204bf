"""Small models and texts of ids, for tests of the network."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape, State
from charlstm.nn.unrolled import Unrolled

Array = NDArray[Any]


Float = type[np.floating[Any]]


NAMES = list(CELLS)


T, B, V, H = 11, 3, 7, 5


every_cell = pytest.mark.parametrize("cell", NAMES)


every_depth = pytest.mark.parametrize("layers", [1, 2, 3])


def make_model(
    cell: str, layers: int = 1, V: int = V, H: int = H, dtype: Float = np.float64, seed: int = 0
) -> Model:
    """A model with weights that put every gate to use, biases too. The same numbers, rounded,
    whatever the dtype."""
    model = Model(Shape(cell, V, H, layers), dtype)
    model.weights.flat[...] = np.random.default_rng(seed).normal(0, 0.6, model.weights.flat.shape)
    return model


def make_text(T: int = T, B: int = B, V: int = V, seed: int = 1) -> tuple[Array, Array]:
    """Ids and targets (T, B), each target the id after its id."""
    ids = np.random.default_rng(seed).integers(0, V, (T + 1, B))
    return ids[:-1].copy(), ids[1:].copy()


def make_state(model: Model, B: int = B, seed: int = 2) -> State:
    """A state that is not zero."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.5, s.shape).astype(s.dtype) for s in model.zero_state(B)]


def assert_close(got: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal but for rounding: in sum, `tolerance` of the largest number."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance * scale)


def assert_all_close(
    got: Sequence[Array], expected: Sequence[Array], tolerance: float = 1e-12
) -> None:
    """`assert_close` for each of two equally long rows of arrays."""
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, tolerance)


def pass_over(
    model: Model,
    ids: Array,
    targets: Array,
    state: State,
    dstate: State | None = None,
    T: int | None = None,
) -> dict[str, Any]:
    """Everything that one pass forward and back gives, in buffers of T steps of their own."""
    unrolled = Unrolled(model, T or len(ids), ids.shape[1])
    after = unrolled.forward(ids, state)
    logits = unrolled.logits().copy()
    gradient = model.weights.like()
    nats, dbefore = unrolled.loss_and_gradient(targets, gradient, 1.0, dstate)
    return {
        "logits": logits,
        "nats": nats.copy(),
        "state": after,
        "gradient": gradient.flat,
        "dbefore": dbefore,
    }


def assert_same(got: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-12) -> None:
    """Two passes gave the same."""
    for name in ("logits", "nats", "gradient"):
        assert_close(got[name], expected[name], tolerance)
    for name in ("state", "dbefore"):
        assert_all_close(got[name], expected[name], tolerance)


def assert_bounded(run: Any, limit: int) -> None:
    """run(n), n times something, keeps to `limit` bytes beyond what it began with, and ends with
    no more than 16 kilobytes beyond it."""
    run(1)
    tracemalloc.start()
    try:
        run(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        run(5)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= limit
    assert after - before <= 1 << 14
