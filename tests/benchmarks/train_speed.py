"""Characters a second in training: charlstm and PyTorch on one thread each, interleaved.

Both do the same full steps: forward over T characters of B streams with the state carried, mean
cross-entropy, backward, clipping by the norm, Adagrad; float32, one-hot input, fresh text in every
step. PyTorch runs its own fused layers (`nn.LSTM` and the others). Every number of streams is
tried by both, since each has its own best.

    python tests/benchmarks/train_speed.py --cell lstm --require 1.3
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import common  # first: one thread each, before NumPy is loaded
import numpy as np

from charlstm.model import Model, Unrolled
from charlstm.optimizers import Adagrad, clip_norm_, norm

CLIP, RATE = 5.0, 0.1
SQUARE = 1024
"""Rows of the matrices whose product measures the machine."""

Run = Callable[[], object]


def texts(V: int, T: int, B: int) -> list[Any]:
    """Thirty segments (T + 1, B) of random ids."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, V, (T + 1, B)) for _ in range(30)]


def charlstm_step(cell: str, V: int, H: int, T: int, B: int) -> Run:
    """One training step of this package."""
    model = Model(cell, V, H)
    model.initialise(np.random.default_rng(0))
    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    optimizer = Adagrad(model.weights.flat)
    segments = itertools.cycle(texts(V, T, B))
    state = model.zero_state(B)

    def step() -> object:
        nonlocal state
        ids = next(segments)
        state = unrolled.forward(ids[:-1], state)
        nats, _ = unrolled.loss_and_gradient(ids[1:], gradient, 1.0 / (T * B))
        clip_norm_(gradient.flat, CLIP, norm(gradient.flat))
        optimizer.step_(model.weights.flat, gradient.flat, RATE)
        return nats.mean()

    return step


def torch_step(torch: Any, cell: str, V: int, H: int, T: int, B: int) -> Run:
    """One training step of PyTorch."""
    torch.manual_seed(0)
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    recurrent, linear = kind(V, H), torch.nn.Linear(H, V)
    weights = [*recurrent.parameters(), *linear.parameters()]
    optimizer = torch.optim.Adagrad(weights, lr=RATE)
    eye = torch.eye(V)
    segments = itertools.cycle([torch.from_numpy(ids) for ids in texts(V, T, B)])
    zero = torch.zeros(1, B, H)
    state: Any = (zero, zero) if cell == "lstm" else zero

    def step() -> object:
        nonlocal state
        ids = next(segments)
        shown, state = recurrent(eye[ids[:-1]], state)
        state = tuple(s.detach() for s in state) if cell == "lstm" else state.detach()
        loss = torch.nn.functional.cross_entropy(linear(shown).reshape(-1, V), ids[1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        return loss.detach()

    return step


def matrix_product() -> Run:
    """One large product of float32 matrices, 2 * SQUARE^3 operations."""
    rng = np.random.default_rng(2)
    a, b = (rng.random((SQUARE, SQUARE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--length", type=int, default=50, help="steps of time")
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--require", type=float, default=1.3, help="least ratio of the bests")
    o = parser.parse_args()
    V, H, T = o.vocabulary, o.hidden, o.length
    torch = common.torch_or_none()

    runs: dict[tuple[str, int], Run] = {}
    work: dict[tuple[str, int], float] = {}
    for B in o.streams:
        runs["charlstm", B] = charlstm_step(o.cell, V, H, T, B)
        if torch:
            runs["PyTorch", B] = torch_step(torch, o.cell, V, H, T, B)
    work = {key: float(key[1] * T) for key in runs}
    runs["product", SQUARE], work["product", SQUARE] = matrix_product(), 2.0 * SQUARE**3
    rates = common.interleave(runs, work, rounds=o.rounds)

    print(f"{o.cell}, hidden {H}, vocabulary {V}, {T} steps, float32, one thread; characters/s\n")
    names = ["charlstm", *(["PyTorch"] if torch else [])]
    head = ["streams", *(f"{name} {which}" for name in names for which in ("best", "median"))]
    rows = [[B, *(f"{rate:,.0f}" for name in names for rate in rates[name, B])] for B in o.streams]
    print(common.table(head, rows))

    best = {name: max(rates[name, B].best for B in o.streams) for name in names}
    middle = {name: max(rates[name, B].median for B in o.streams) for name in names}
    product = rates["product", SQUARE]
    flop = 3 * 2 * (len(Model(o.cell, V, H).cell.gates) * H * H + H * V)
    share = [best["charlstm"] * flop / product.best, middle["charlstm"] * flop / product.median]
    print(
        f"\nmatrix product ({SQUARE}^3): {product.best / 1e9:.1f} GFLOP/s best, "
        f"{product.median / 1e9:.1f} median"
    )
    print(
        f"charlstm at {flop / 1e3:,.1f} kFLOP a character: {share[0]:.0%} of that rate (bests), "
        f"{share[1]:.0%} (medians)"
    )
    if not torch:
        print("PyTorch is not installed: no ratio")
        return 0
    ratio = best["charlstm"] / best["PyTorch"]
    print(
        f"charlstm / PyTorch, each at its best number of streams: {ratio:.2f} (bests), "
        f"{middle['charlstm'] / middle['PyTorch']:.2f} (medians)"
    )
    return common.judge(ratio, o.require)


if __name__ == "__main__":
    raise SystemExit(main())
