"""Clipping and descent: against numbers worked out by hand and against the naive reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from charlstm.optimizers import OPTIMIZERS, SGD, Adagrad, clip_norm_, clip_value_, norm

Array = NDArray[Any]
Float = type[np.floating[Any]]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def gradients(steps: int, size: int = 50) -> Array:
    """Gradients (steps, size) of very different magnitudes, some of them zero."""
    rng = np.random.default_rng(1)
    g = rng.normal(0.0, 1.0, (steps, size)) * 10.0 ** rng.uniform(-6, 2, size)
    g[:, 3] = 0.0
    g[rng.random(g.shape) < 0.1] = 0.0
    return g


# --- clipping ------------------------------------------------------------------------------------


@every_dtype
def test_norm(dtype: Float) -> None:
    """Euclidean, a plain float; zero of zeros and of nothing."""
    assert norm(np.array([3.0, -4.0, 12.0], dtype)) == 13.0
    assert isinstance(norm(np.ones(4, dtype)), float)
    assert norm(np.zeros(5, dtype)) == 0.0
    assert norm(np.zeros(0, dtype)) == 0.0
    assert math.isnan(norm(np.array([1.0, np.nan], dtype)))


@every_dtype
def test_a_long_gradient_is_shortened_and_keeps_its_direction(dtype: Float) -> None:
    """By hand: (6, -8) has length 10, to 5 it is (3, -4); and as the reference on any other."""
    g = np.array([6.0, -8.0], dtype)
    clip_norm_(g, 5.0, norm(g))
    np.testing.assert_array_equal(g, [3.0, -4.0])
    g = gradients(1)[0].astype(dtype)
    before = g.astype(np.float64)
    expected = reference.clip_norm(before, 0.25)
    clip_norm_(g, 0.25, norm(g))
    np.testing.assert_allclose(g, expected, rtol=1e-5 if dtype == np.float32 else 1e-13)
    assert norm(g) == pytest.approx(0.25, rel=1e-5)
    cosine = float(before @ g) / (norm(before) * norm(g.astype(np.float64)))
    assert cosine == pytest.approx(1.0, abs=1e-6 if dtype == np.float32 else 1e-14)
    assert g.dtype == dtype


@pytest.mark.parametrize("limit", [5.0, 5.000001, 100.0, math.inf])
@every_dtype
def test_no_clipping_by_norm_at_or_below_the_limit(dtype: Float, limit: float) -> None:
    """A gradient as long as the limit, or shorter, keeps every bit; so does one of zeros."""
    for values in ([3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1e-30, 0.0, 0.0]):
        g = np.array(values, dtype)
        clip_norm_(g, limit, norm(g))
        np.testing.assert_array_equal(g, np.array(values, dtype))


@every_dtype
def test_clipping_by_value(dtype: Float) -> None:
    """Elements beyond ±limit become it, the others keep every bit, the limit itself included."""
    g = np.array([-7.0, -5.0, -4.9, -0.0, 0.1, 5.0, 5.1, np.inf, -np.inf], dtype)
    clip_value_(g, 5.0)
    expected = np.array([-5.0, -5.0, -4.9, -0.0, 0.1, 5.0, 5.0, 5.0, -5.0], dtype)
    np.testing.assert_array_equal(g, expected)
    g = gradients(1)[0].astype(dtype)
    before = g.copy()
    clip_value_(g, 0.01)
    np.testing.assert_array_equal(g, reference.clip_value(before, 0.01).astype(dtype))
    assert np.abs(g).max() == dtype(0.01) and (before != g).any() and (before == g).any()
    clip_value_(before, 1e9)
    np.testing.assert_array_equal(before, gradients(1)[0].astype(dtype))


def test_clipping_works_in_place() -> None:
    """Both change the vector that they are given: views into it, by name, see the change."""
    flat = np.full(6, 2.0)
    view = flat[2:4].reshape(2, 1)
    clip_value_(flat, 1.0)
    assert view.tolist() == [[1.0], [1.0]]
    clip_norm_(flat, 0.5 * norm(flat), norm(flat))
    assert view.tolist() == [[0.5], [0.5]]


# --- descent -------------------------------------------------------------------------------------


def test_sgd_by_hand() -> None:
    """w - lr g, exactly, in numbers that floating point holds exactly."""
    w = np.array([1.0, -2.0, 0.5])
    SGD(w).step_(w, np.array([4.0, -8.0, 0.0]), 0.25)
    assert w.tolist() == [0.0, 0.0, 0.5]


def test_adagrad_by_hand() -> None:
    """The first step has the length lr in every weight, however small its gradient, and none
    where the gradient is zero; after gradients 3 and 4 the second step is lr * 4 / 5."""
    w = np.array([1.0, 1.0, 1.0])
    optimizer = Adagrad(w)
    optimizer.step_(w, np.array([3.0, -0.001, 0.0]), 0.5)
    np.testing.assert_allclose(w, [0.5, 1.5, 1.0], rtol=1e-4)
    assert w[2] == 1.0
    np.testing.assert_allclose(optimizer.state["squares"], [9.0, 1e-6, 0.0], rtol=1e-12)
    optimizer.step_(w, np.array([4.0, 0.0, 0.0]), 0.5)
    np.testing.assert_allclose(w, [0.1, 1.5, 1.0], rtol=1e-4)
    np.testing.assert_allclose(optimizer.state["squares"], [25.0, 1e-6, 0.0], rtol=1e-12)


def test_adagrad_takes_no_step_where_no_gradient_has_been() -> None:
    """0 / 0 does not occur: a weight without a gradient stays, without a warning."""
    w = np.array([0.25, -0.25], np.float32)
    optimizer = Adagrad(w)
    with np.errstate(all="raise"):
        for _ in range(3):
            optimizer.step_(w, np.zeros(2, np.float32), 0.1)
    assert w.tolist() == [0.25, -0.25]


@every_dtype
def test_sgd_equals_the_reference(dtype: Float) -> None:
    """Forty steps of changing size."""
    w = np.linspace(-1.0, 1.0, 50).astype(dtype)
    expected = w.astype(np.float64)
    optimizer = SGD(w)
    for k, g in enumerate(gradients(40)):
        g = g.astype(dtype)
        expected = reference.sgd(expected, g.astype(np.float64), 0.01 / (k + 1))
        optimizer.step_(w, g, 0.01 / (k + 1))
    np.testing.assert_allclose(w, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)
    assert w.dtype == dtype


@every_dtype
def test_adagrad_equals_the_reference(dtype: Float) -> None:
    """Forty steps of changing size over gradients from a millionth to a hundred: weights and
    sums of squares."""
    w = np.linspace(-1.0, 1.0, 50).astype(dtype)
    expected, squares = w.astype(np.float64), np.zeros(50)
    optimizer = Adagrad(w)
    for k, g in enumerate(gradients(40)):
        g = g.astype(dtype)
        rate = 0.1 / (k + 1)
        expected, squares = reference.adagrad(expected, g.astype(np.float64), squares, rate)
        optimizer.step_(w, g, rate)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(w, expected, rtol=tolerance, atol=tolerance * 0.1)
    np.testing.assert_allclose(optimizer.state["squares"], squares, rtol=tolerance)
    assert w.dtype == optimizer.state["squares"].dtype == dtype


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_state_is_all_there_is(name: str) -> None:
    """Ten steps, the state copied into a new optimizer, ten more: every bit as twenty at a
    stretch. That is what a checkpoint relies on."""
    g = gradients(20).astype(np.float32)
    whole = np.zeros(50, np.float32)
    optimizer = OPTIMIZERS[name](whole)
    for row in g:
        optimizer.step_(whole, row.copy(), 0.1)
    w = np.zeros(50, np.float32)
    first = OPTIMIZERS[name](w)
    for row in g[:10]:
        first.step_(w, row.copy(), 0.1)
    second = OPTIMIZERS[name](w)
    assert list(second.state) == list(second.sums) == list(first.state)
    for key, values in first.state.items():
        assert values.shape == w.shape and values.dtype == w.dtype
        second.state[key][...] = values
    for row in g[10:]:
        second.step_(w, row.copy(), 0.1)
    np.testing.assert_array_equal(w, whole)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_descent_goes_down(name: str) -> None:
    """On a bowl, weights come to its lowest point; they are changed in place."""
    target = np.array([1.0, -2.0, 0.5])
    w = np.zeros(3)
    view = w[1:]
    optimizer = OPTIMIZERS[name](w)
    for _ in range(400):
        optimizer.step_(w, 2.0 * (w - target), 0.3)
    np.testing.assert_allclose(w, target, atol=1e-3)
    np.testing.assert_allclose(view, target[1:], atol=1e-3)


def test_names() -> None:
    """Each optimizer is listed under its own name."""
    assert {name: o.name for name, o in OPTIMIZERS.items()} == {name: name for name in OPTIMIZERS}
    assert {"sgd", "adagrad"} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sparse_step_is_the_same_step(name: str) -> None:
    """To the bit, over several steps with other rows each time."""
    rng = np.random.default_rng(3)
    shape, n = (4, 50, 6), 4 * 50 * 6 + 77
    weights = [np.linspace(-1, 1, n, dtype=np.float32) for _ in range(2)]
    dense, sparse = (OPTIMIZERS[name](w) for w in weights)
    for _ in range(5):
        rows = np.sort(rng.permutation(50)[:7])
        g = rng.standard_normal(n).astype(np.float32)
        absent = np.setdiff1d(np.arange(50), rows)
        g[: 4 * 50 * 6].reshape(shape)[:, absent] = 0.0
        dense.step_(weights[0], g.copy(), 0.1)
        sparse.sparse_step_(weights[1], g.copy(), 0.1, shape, rows)
        assert weights[0].tobytes() == weights[1].tobytes()
        for key, sums in dense.state.items():
            assert sums.tobytes() == sparse.state[key].tobytes()
