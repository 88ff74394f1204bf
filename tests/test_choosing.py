"""Units are drawn by their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampled import Array, choose, draw

from charlstm.generation.choose import MANY, Chooser, cut_


def softmax(y: Array, temperature: float = 1.0) -> Array:
    p = np.exp((y - y.max()) / temperature)
    return np.asarray(p / p.sum())


def test_temperature_zero() -> None:
    """Temperature 0 is the likeliest of each row, the first of equals, by whatever number."""
    y = np.array([[0.0, 3.0, 3.0], [5.0, 1.0, 5.0], [-9.0, -8.0, -7.0]])
    for number in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        assert choose(y, 0.0, 0, 1.0, np.full(3, number)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distribution(temperature: float, dtype: type[np.generic]) -> None:
    """Draws follow softmax(y / temperature): chi-square with 7 degrees of freedom."""
    y = np.random.default_rng(5).normal(0, 1, 8).astype(dtype)
    n = 40_000
    expected = n * softmax(y.astype(np.float64), temperature)
    chi = np.sum((draw(y, n, temperature) - expected) ** 2 / expected)
    assert chi < 29.9  # exceeded once in ten thousand


def test_rows_are_independent() -> None:
    """Each row is drawn from its own distribution with a random number of its own."""
    y = np.tile(np.log([[0.5, 0.5], [0.9, 0.1]]), (20_000, 1))
    ids = choose(y, 1.0, 0, 1.0, np.random.default_rng(2).random(len(y))).reshape(-1, 2)
    assert abs(ids[:, 0].mean() - 0.5) < 0.02
    assert abs(ids[:, 1].mean() - 0.1) < 0.01
    assert abs(np.corrcoef(ids.T)[0, 1]) < 0.03


def test_input_is_left_alone() -> None:
    """The logits belong to the caller."""
    for dtype in (np.float32, np.float64):
        y = np.random.default_rng(5).normal(0, 1, (3, 8)).astype(dtype)
        copy = y.copy()
        choose(y, 0.7, 3, 0.9, np.random.default_rng(0).random(3))
        assert (y == copy).all()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k(k: int) -> None:
    """Exactly the k likeliest remain, in their proportions."""
    y = np.array([0.5, 2.0, -1.0, 1.0, 1.5])
    n = 20_000
    likeliest = np.argsort(-y)[:k]
    counts = draw(y, n, top_k=k)
    assert set(np.flatnonzero(counts)) == set(likeliest)
    expected = n * softmax(y[likeliest])
    assert np.abs(counts[likeliest] - expected).max() < 5 * math.sqrt(n) / 2


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_of_equals(k: int) -> None:
    """Equals do not make more than k: the first of them are taken."""
    counts = draw(np.zeros(6), 2000, top_k=k)
    assert np.flatnonzero(counts).tolist() == list(range(k))


@pytest.mark.parametrize("k", [0, 6, 7, 10**9])
def test_top_k_of_all(k: int) -> None:
    """0, or as many as there are, or more, is all."""
    assert (draw(np.zeros(6), 5000, top_k=k) > 0).all()


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-300, 1), (0.49, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 4)]
)
def test_top_p(top_p: float, kept: int) -> None:
    """The fewest of the likeliest that reach top_p: 1/2, 1/4, 1/8, 1/8 add up without rounding."""
    y = np.log(np.array([1.0, 4.0, 1.0, 2.0]) / 8)
    counts = draw(y, 5000, top_p=top_p)
    assert set(np.flatnonzero(counts)) == set([1, 3, 0, 2][:kept])


def test_top_p_is_of_what_top_k_leaves() -> None:
    """After top_k the rest counts as the whole."""
    y = np.log(np.array([4.0, 2.0, 1.0, 1.0]) / 8)  # of the first two: 2/3 and 1/3
    assert np.flatnonzero(draw(y, 3000, top_k=2, top_p=0.66)).tolist() == [0]
    assert np.flatnonzero(draw(y, 3000, top_k=2, top_p=0.67)).tolist() == [0, 1]


@pytest.mark.parametrize("value", [0.0, 0.5, math.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("top_k", [0, 2])
def test_never_of_probability_zero(value: float, top_k: int) -> None:
    """Whatever the random number, what cannot come does not: first, last or in between."""
    y = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf], [-2000.0, 0.0, -2000.0, 0.0, -2000.0]])
    ids = choose(y, 1.0, top_k, 1.0, np.full(2, value))
    assert ids.tolist() == ([1, 1] if value < 0.5 else [3, 3])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=6),
    st.sampled_from([5e-324, 1e-300, 1e-9, 0.8, 1e9, 1.7e308]),
    st.integers(0, 8),
    st.sampled_from([5e-324, 0.3, 1.0]),
    st.sampled_from([0.0, 0.5, math.nextafter(1.0, 0.0)]),
)
def test_any_logits(y: list[float], t: float, top_k: int, top_p: float, value: float) -> None:
    """Tiny and huge temperatures and logits give an id without a warning; the tiny, the best."""
    logits = np.array([y], np.float32)
    (i,) = choose(logits, t, top_k, top_p, np.array([value]))
    assert 0 <= i < len(y)
    if t == 5e-324 or top_k == 1 or top_p == 5e-324:
        gap = max(y) - float(logits[0, i])
        assert gap <= max(1e-28, 1e-15 * t)  # equal, as far as numbers go


@pytest.mark.parametrize("streams", [1, 2, MANY - 1, MANY, 300])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.7), (5, 0.9)])
@pytest.mark.parametrize("plain", [False, True])
def test_streams_do_not_see_each_other(streams: int, top_k: int, top_p: float, plain: bool) -> None:
    """However many there are, and in whatever memory order, each is drawn as if alone."""
    y = np.random.default_rng(5).normal(0, 3, (streams, 9)).astype(np.float32)
    numbers = np.random.default_rng(6).random(streams)
    chooser = Chooser(streams, 9, top_k=top_k, top_p=top_p, plain=plain)
    together = chooser(y, numbers)
    assert (together == chooser(np.asfortranarray(y), numbers)).all()
    for row, number, i in zip(y, numbers, together.tolist(), strict=True):
        assert choose(row[None], 1.0, top_k, top_p, number[None]) == [i]
    assert top_k or top_p < 1 or streams < 100 or len(set(together.tolist())) == 9


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1e-300, 0.5, 1.0, 2.0, 3.0]), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
    st.sampled_from([5e-324, 0.3, 0.5, 0.99, 1.0]),
)
def test_cut(rows: list[list[float]], k: int, top_p: float) -> None:
    """What stays is what sorting each row by itself, equals in their order, says."""
    rows = [row if any(row) else [1.0] * 5 for row in rows]
    p = np.array(rows).T.copy()
    cut_(p, k, top_p)
    for row, got in zip(rows, p.T.tolist(), strict=True):
        order = sorted(range(5), key=lambda i: -row[i])[:k]
        whole, ahead, expected = sum(row[i] for i in order), 0.0, [0.0] * 5
        for i in order:
            if i == order[0] or top_p == 1.0 or ahead < top_p * whole:
                expected[i] = row[i]
            ahead += row[i]
        assert got == expected


def test_huge_temperature_is_uniform() -> None:
    """The hotter, the more alike."""
    assert np.abs(draw(np.array([0.0, 50.0]), 20_000, 1e12) - 10_000).max() < 400
