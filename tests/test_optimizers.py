"""Clipping, descent and schedules: against numbers worked out by hand, against the naive reference
and, where it is installed, against PyTorch."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import charlstm.nn.optimizers
from charlstm.config.schema import KEYS, TrainConfig
from charlstm.nn.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    STRIDE,
    Adagrad,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    Schedule,
    clip_norm_,
    clip_value_,
    norm,
)

Array = NDArray[Any]
Float = type[np.floating[Any]]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))
every_schedule = pytest.mark.parametrize("kind", SCHEDULES)


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


def test_rmsprop_by_hand() -> None:
    """With D = 3/4, gradients 2 and then 0: mean squares 1 and 3/4, the first step lr * 2 / 1."""
    w = np.array([1.0, 1.0])
    optimizer = RMSprop(w, rms_decay=0.75)
    optimizer.step_(w, np.array([2.0, 0.0]), 0.25)
    np.testing.assert_allclose(w, [0.5, 1.0], rtol=1e-7)
    np.testing.assert_allclose(optimizer.state["squares"], [1.0, 0.0], rtol=1e-12, atol=1e-25)
    optimizer.step_(w, np.zeros(2), 0.25)
    np.testing.assert_allclose(w, [0.5, 1.0], rtol=1e-7)
    np.testing.assert_allclose(optimizer.state["squares"], [0.75, 0.0], rtol=1e-12, atol=1e-25)


def test_adam_by_hand() -> None:
    """The first step has the length lr, whatever the gradient. With B1 = 1/2 and B2 = 3/4,
    gradients 4 and 0: m = 2, 1, corrected by 1/2, 3/4 to 4, 4/3; s = 4, 3, corrected by 1/4, 7/16
    to 16, 48/7."""
    w = np.array([1.0, 1.0, 1.0])
    Adam(w).step_(w, np.array([3.0, -0.001, 0.0]), 0.5)
    np.testing.assert_allclose(w, [0.5, 1.5, 1.0], rtol=1e-4)
    w = np.array([10.0])
    optimizer = Adam(w, beta1=0.5, beta2=0.75)
    optimizer.step_(w, np.array([4.0]), 1.0)
    assert w[0] == pytest.approx(9.0)
    optimizer.step_(w, np.array([0.0]), 1.0)
    assert optimizer.steps == 2
    assert [float(s[0]) for s in optimizer.state.values()] == pytest.approx([1.0, 3.0])
    assert w[0] == pytest.approx(9.0 - (4 / 3) / math.sqrt(48 / 7))


def test_weight_decay_by_hand() -> None:
    """It is decoupled: a weight of 2 without a gradient goes to 2 (1 - lr * 0.1), and a gradient's
    step is that of Adam, from there."""
    w = np.array([2.0, 2.0])
    AdamW(w, weight_decay=0.1).step_(w, np.array([0.0, 7.0]), 0.5)
    np.testing.assert_allclose(w, [1.9, 1.4], rtol=1e-7)
    decayed, plain = np.array([2.0, -3.0]), np.array([2.0, -3.0])
    AdamW(decayed).step_(decayed, np.array([0.5, 7.0]), 0.5)
    Adam(plain).step_(plain, np.array([0.5, 7.0]), 0.5)
    assert decayed.tolist() == plain.tolist()


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


@every_optimizer
def test_state_is_all_there_is(name: str) -> None:
    """Ten steps, the state and the number of steps copied into a new optimizer, ten more: every
    bit as twenty at a stretch. That is what a checkpoint relies on."""
    g = gradients(20).astype(np.float32)
    whole = np.zeros(50, np.float32)
    optimizer = OPTIMIZERS[name](whole)
    for row in g:
        optimizer.step_(whole, row.copy(), 0.1)
    w = np.zeros(50, np.float32)
    first = OPTIMIZERS[name](w)
    for row in g[:10]:
        first.step_(w, row.copy(), 0.1)
    second = OPTIMIZERS[name](w, first.steps)
    assert list(second.state) == list(second.sums) == list(first.state)
    for key, values in first.state.items():
        assert values.shape == w.shape and values.dtype == w.dtype
        second.state[key][...] = values
    for row in g[10:]:
        second.step_(w, row.copy(), 0.1)
    np.testing.assert_array_equal(w, whole)


@every_optimizer
def test_descent_goes_down(name: str) -> None:
    """On a bowl, weights come to its lowest point while the steps shrink; they are changed in
    place."""
    target = np.array([1.0, -2.0, 0.5])
    w = np.zeros(3)
    view = w[1:]
    optimizer = OPTIMIZERS[name](w)
    for k in range(400):
        optimizer.step_(w, 2.0 * (w - target), 0.3 * min(1.0, 0.97 ** (k - 200)))
    np.testing.assert_allclose(w, target, atol=1e-3)
    np.testing.assert_allclose(view, target[1:], atol=1e-3)


def test_names() -> None:
    """Each optimizer is listed under its own name; its settings are keys of the configuration with
    the same defaults; the configuration takes all optimizers and schedules and no others."""
    assert {name: o.name for name, o in OPTIMIZERS.items()} == {name: name for name in OPTIMIZERS}
    for rule in OPTIMIZERS.values():
        for key in rule.settings:
            assert getattr(rule, key) == getattr(TrainConfig(), key)
    for key, names in (("train.optimizer", OPTIMIZERS), ("train.schedule", SCHEDULES)):
        listed = KEYS[key].metadata["expected"].removeprefix("one of ").split(", ")
        assert sorted(listed) == sorted(names)


@pytest.mark.parametrize("name", [n for n, o in OPTIMIZERS.items() if o.sparse])
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


@every_optimizer
def test_sparse_is_said_of_the_right_ones(name: str) -> None:
    """Where a zero gradient changes a weight or its sums, a sparse step is none."""
    w = np.ones(6)
    optimizer = OPTIMIZERS[name](w)
    optimizer.step_(w, np.linspace(-1.0, 1.0, 6), 0.1)
    before = [v.copy() for v in (w, *optimizer.state.values())]
    optimizer.step_(w, np.zeros(6), 0.1)
    after = (w, *optimizer.state.values())
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert optimizer.sparse == same
    if not optimizer.sparse:
        with pytest.raises(AssertionError):
            optimizer.sparse_step_(w, np.zeros(6), 0.1, (1, 2, 3), np.array([0]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(OPTIMIZERS)), st.integers(1, 130), st.integers(1, 130))
def test_in_blocks_or_whole_is_the_same(name: str, size: int, block: int) -> None:
    """To the bit, whatever the size of a block."""
    g = gradients(4, max(size, 4))[:, :size].astype(np.float32)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for length in (10**6, block):
            patch.setattr(charlstm.nn.optimizers, "STRIDE", length)
            w = np.linspace(-1.0, 1.0, size, dtype=np.float32)
            optimizer = OPTIMIZERS[name](w)
            for row in g:
                optimizer.step_(w, row.copy(), 0.1)
            results.append([w, *optimizer.state.values()])
    for whole, parts in zip(*results, strict=True):
        assert whole.tobytes() == parts.tobytes()


@every_optimizer
def test_a_step_allocates_nothing(name: str) -> None:
    """No array that grows with the weights."""
    w, g = np.ones(3 * STRIDE + 5, np.float32), np.ones(3 * STRIDE + 5, np.float32)
    optimizer = OPTIMIZERS[name](w)
    optimizer.step_(w, g, 0.1)
    tracemalloc.start()
    try:
        optimizer.step_(w, g, 0.1)
        assert tracemalloc.get_traced_memory()[1] < STRIDE // 4
    finally:
        tracemalloc.stop()


@every_optimizer
def test_sums_do_not_become_subnormal(name: str) -> None:
    """A weight that gets no gradient any more has sums of a normal size, or zero, for ever, and
    stays where it is."""
    w = np.array([0.5, -0.5, 0.25], np.float32)
    optimizer = OPTIMIZERS[name](w)
    optimizer.step_(w, np.array([0.3, -1e-3, 0.0], np.float32), 0.1)
    for k in range(5000):
        optimizer.step_(w, np.zeros(3, np.float32), 0.1)
        if k == 2000:
            before = w.copy()
    tiny = np.finfo(np.float32).tiny
    for sums in optimizer.state.values():
        assert ((np.abs(sums) >= tiny) | (sums == 0.0)).all()
    assert np.array_equal(w, before)
    assert w[2] == np.float32(0.25)


# --- schedules -----------------------------------------------------------------------------------


def test_constant() -> None:
    """The same rate to the bit, whatever has been, and below any floor."""
    schedule = Schedule("constant", 0.1, lr_min=1.0, total=10)
    assert {schedule.learning_rate(*at) for at in [(0, 0, 0), (9, 3, 4), (99, 30, 40)]} == {0.1}


@every_schedule
def test_warm_up_by_hand(kind: str) -> None:
    """Three steps at 1/4, 2/4 and 3/4 of the rate; the fourth is the first at the full rate."""
    schedule = Schedule(kind, 0.8, warm_up=3, total=10)
    rates = [schedule.learning_rate(k, 0, 0) for k in range(4)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert schedule.learning_rate(3, 0, 0) == 0.8


def test_exponential_by_hand() -> None:
    """Ten epochs at the full rate, then 97 % of it in the eleventh, and so on to the floor."""
    schedule = Schedule("exponential", 2e-3, lr_decay=0.97, lr_decay_after=10, lr_min=1e-3)
    rates = [schedule.learning_rate(0, epoch, 7) for epoch in (0, 9, 10, 11, 400)]
    assert rates == pytest.approx([2e-3, 2e-3, 1.94e-3, 2e-3 * 0.97**2, 1e-3])
    each = Schedule("exponential", 1.0, lr_decay=0.5)
    assert [each.learning_rate(0, epoch, 0) for epoch in range(4)] == [1.0, 0.5, 0.25, 0.125]


def test_cosine_by_hand() -> None:
    """The full rate at first, the middle half-way, the floor at the end and after it."""
    schedule = Schedule("cosine", 1.0, lr_min=0.5, total=100)
    rates = [schedule.learning_rate(k, 3, 4) for k in (0, 50, 100, 200)]
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.5])
    late = Schedule("cosine", 1.0, warm_up=20, total=100)
    assert late.learning_rate(60, 0, 0) == pytest.approx(0.5)
    held = Schedule("cosine", 1.0, warm_up=5, total=100, hold=20)
    assert [held.learning_rate(step, 0, 0) for step in (5, 20, 60, 100)] == pytest.approx(
        [1, 1, 0.5, 0]
    )
    longer = Schedule("cosine", 1.0, warm_up=5, total=900, hold=20)
    for step in range(21):  # the total does not matter yet
        assert held.learning_rate(step, 0, 0) == longer.learning_rate(step, 0, 0)
    warm = Schedule("cosine", 1.0, warm_up=100, total=10)  # ends before it begins
    assert warm.learning_rate(9, 0, 0) == pytest.approx(10 / 101)


def test_plateau_by_hand() -> None:
    """The book's: 20, then divided by 4 at every look that is no better; it may vanish."""
    schedule = Schedule("plateau", 20.0)
    assert [schedule.learning_rate(9, 9, n) for n in range(4)] == [20.0, 5.0, 1.25, 0.3125]
    assert schedule.learning_rate(9, 9, 10**6) == 0.0
    assert Schedule("plateau", 20.0, lr_min=1.0).learning_rate(9, 9, 5) == 1.0


@given(
    st.sampled_from(SCHEDULES),
    st.floats(1e-6, 100.0),
    st.floats(0.0, 1.0),
    st.integers(0, 50),
    st.integers(1, 100),
)
def test_rates_rise_and_then_fall(
    kind: str, lr: float, floor: float, warm_up: int, total: int
) -> None:
    """In every schedule: up while it warms up, never up after it, within 0 … lr."""
    schedule = Schedule(kind, lr, floor * lr, warm_up, total=total)
    rates = [schedule.learning_rate(k, k // 10, k // 7) for k in range(total)]
    assert all(0.0 < rate <= lr for rate in rates)
    after = rates[warm_up:]
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(after))
    assert all(rate >= floor * lr * (1 - 1e-12) for rate in after)


# --- PyTorch -------------------------------------------------------------------------------------

PEERS: dict[str, tuple[type[Optimizer], dict[str, float], str, dict[str, Any]]] = {
    "sgd": (SGD, {}, "SGD", {}),
    "adagrad": (Adagrad, {}, "Adagrad", {"eps": 1e-8}),
    "rmsprop": (RMSprop, {}, "RMSprop", {"alpha": 0.95}),
    "rmsprop, 0.99": (RMSprop, {"rms_decay": 0.99}, "RMSprop", {}),
    "adam": (Adam, {}, "Adam", {}),
    "adam, 0.5, 0.9": (Adam, {"beta1": 0.5, "beta2": 0.9}, "Adam", {"betas": (0.5, 0.9)}),
    "adam, 0": (Adam, {"beta1": 0.0, "beta2": 0.0}, "Adam", {"betas": (0.0, 0.0)}),
    "adamw": (AdamW, {}, "AdamW", {"weight_decay": 0.0}),
    "adamw, 0.01": (AdamW, {"weight_decay": 0.01}, "AdamW", {}),
    "adamw, 0.5": (AdamW, {"weight_decay": 0.5}, "AdamW", {"weight_decay": 0.5}),
}
"""Ours with its settings, PyTorch's with its own; `{}` is where the defaults are the same."""


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-13)])
def test_a_hundred_steps_equal_pytorchs(peer: Any, dtype: Float, tolerance: float) -> None:
    """Random gradients, of one magnitude and of very different ones, some zero; under a rate that
    changes. To 1e-6 of the weights, whose size is one."""
    torch = pytest.importorskip("torch")
    ours, ours_settings, theirs, their_settings = peer
    rng = np.random.default_rng(2)
    mixed = gradients(100)
    mixed *= np.minimum(1.0, 5.0 / np.linalg.norm(mixed, axis=1))[:, None]
    for g in (rng.standard_normal((100, 50)), mixed):
        g = g.astype(dtype)
        w = rng.uniform(-1.0, 1.0, 50).astype(dtype)
        parameter = torch.nn.Parameter(torch.from_numpy(w.copy()))
        optimizer = ours(w, **ours_settings)
        peer_optimizer = getattr(torch.optim, theirs)([parameter], lr=1.0, **their_settings)
        for k, row in enumerate(g):
            rate = 0.01 * (1.0 + math.sin(k))
            peer_optimizer.param_groups[0]["lr"] = rate
            parameter.grad = torch.from_numpy(row.copy())
            peer_optimizer.step()
            optimizer.step_(w, row, rate)
            np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=0, atol=tolerance)
        assert w.dtype == dtype


def their_rates(make: Any, steps: int, lr: float, losses: list[float] | None = None) -> list[float]:
    """The rates of so many steps by PyTorch's schedule that `make` makes of its module and of an
    optimizer."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for k in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step() if losses is None else schedule.step(losses[k])
    return rates


def test_exponential_equals_pytorchs() -> None:
    """Over a hundred epochs."""
    expected = their_rates(lambda t, o: t.ExponentialLR(o, 0.97), 100, 0.3)
    schedule = Schedule("exponential", 0.3)
    ours = [schedule.learning_rate(k * 10, k, 0) for k in range(100)]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_cosine_equals_pytorchs() -> None:
    expected = their_rates(lambda t, o: t.CosineAnnealingLR(o, 100, 0.01), 100, 0.3)
    schedule = Schedule("cosine", 0.3, lr_min=0.01, total=100)
    np.testing.assert_allclose(
        [schedule.learning_rate(k, 0, 0) for k in range(100)], expected, rtol=1e-12
    )


def test_cosine_with_warm_up_equals_pytorchs() -> None:
    """LinearLR for the first ten steps, then CosineAnnealingLR over the ninety others."""

    def both(t: Any, o: Any) -> Any:
        parts = [t.LinearLR(o, 1 / 11, total_iters=10), t.CosineAnnealingLR(o, 90)]
        return t.SequentialLR(o, parts, [10])

    expected = their_rates(both, 100, 0.3)
    schedule = Schedule("cosine", 0.3, warm_up=10, total=100)
    np.testing.assert_allclose(
        [schedule.learning_rate(k, 0, 0) for k in range(100)], expected, rtol=1e-12
    )


def test_plateau_equals_pytorchs() -> None:
    """Over a hundred looks, some better than all before, some not, some just as good."""
    rng = np.random.default_rng(4)
    losses = (np.round(rng.random(100), 1) + np.linspace(3.0, 0.0, 100)).tolist()
    losses[50] = losses[51] = min(losses[:50]) - 0.1
    options = {"factor": 0.25, "patience": 0, "threshold": 0.0, "eps": 0.0, "min_lr": 1e-30}
    expected = their_rates(lambda t, o: t.ReduceLROnPlateau(o, **options), 100, 20.0, losses)
    schedule = Schedule("plateau", 20.0, lr_min=1e-30)
    setbacks, best, ours = 0, math.inf, []
    for loss in losses:
        ours.append(schedule.learning_rate(0, 0, setbacks))
        setbacks += loss >= best
        best = min(best, loss)
    assert 0 < setbacks < 99
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
