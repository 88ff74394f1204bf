"""Characters a second in training: charlstm and its peers on the same cores, interleaved.

All do the same full steps: forward over T characters of B streams with the state carried, mean
cross-entropy, backward, clipping by the norm, Adagrad; float32, one-hot input, fresh text in every
step. PyTorch runs its own fused layers (`nn.LSTM` and the others), JAX one compiled function (see
`peers.py`). Every number of streams is tried by all, since each has its own best.

    python tests/benchmarks/train_speed.py --cell lstm --require 1.3
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import common  # first: one thread each, before NumPy is loaded
import numpy as np
import peers
from common import Rates, Row, Run
from peers import CLIP, RATE, Task, initial, jax_step, texts, torch_step

from charlstm.config.schema import Config, Setting
from charlstm.nn.cells import CELLS
from charlstm.nn.optimizers import Adagrad, clip_norm_, norm
from charlstm.nn.shape import Shape
from charlstm.nn.unrolled import Unrolled
from charlstm.training.plan import fitted
from charlstm.training.shards import Job, Shards

STREAMS = (16, 32, 64, 128)
SQUARE = 1024
"""Rows of the matrices whose product measures the machine."""
OURS, PRODUCT = "charlstm", "matrix product"

Found = dict[tuple[str, int], Rates]
"""Characters a second by contestant and streams; of the matrix product, operations."""
Targets = Mapping[str, float | None]
"""What is asked of the ratio to each contestant; None where it is only told."""


class Contest(NamedTuple):
    """A configuration that is measured, and what is asked of it on one core and on all."""

    cell: str
    V: int
    H: int
    layers: int
    streams: tuple[int, ...]
    one: Targets
    all: Targets
    embedding: bool = False
    """PyTorch with `nn.Embedding`, its faster way where there are many characters."""
    rounds: int = 15

    def __str__(self) -> str:
        layers = f" x {self.layers} layers" if self.layers > 1 else ""
        return f"training, {self.cell}, H {self.H}{layers}, V {self.V:,}"


T = 50
CONTESTS = (
    Contest(
        *("lstm", 65, 100, 1, STREAMS),
        one={"PyTorch": 1.45, PRODUCT: 0.65},
        all={"PyTorch": 1.5, "JAX": 2.5, PRODUCT: 0.6},
    ),
    Contest(
        *("lstm", 1679, 100, 1, STREAMS),
        one={"PyTorch": 1.4, PRODUCT: None},
        all={"PyTorch": 1.4, PRODUCT: None},
        embedding=True,
    ),
    Contest(
        *("lstm", 65, 512, 2, (64, 128, 256)),
        one={"PyTorch": 1.0, PRODUCT: 0.88},
        all={"PyTorch": 1.0, PRODUCT: 0.88},
        rounds=7,
    ),
    Contest(
        *("gru", 65, 100, 1, STREAMS),
        one={"PyTorch": 1.8, PRODUCT: None},
        all={"PyTorch": 1.8, PRODUCT: None},
    ),
    Contest(
        *("rnn", 65, 100, 1, STREAMS),
        one={"PyTorch": 1.4, PRODUCT: None},
        all={"PyTorch": 1.4, PRODUCT: None},
    ),
)
"""All that is measured; every one with T steps of time."""


def charlstm_step(
    cell: str,
    V: int,
    H: int,
    layers: int,
    T: int,
    B: int,
    workers: int = 1,
    clip: float = CLIP,
    rate: float = RATE,
) -> Run:
    """Training steps of this package, the streams shared by so many processes."""
    model = initial(cell, V, H, layers)
    segments = itertools.cycle(texts(V, T, B))
    scale = 1.0 / (T * B)

    if workers > 1:
        shards = started(Task(cell, V, H, layers, T, B), workers)
        shards.weights[...] = model.weights.flat
        weights, flat_gradient = shards.weights, shards.gradient

        def nats_and_gradient() -> float:
            return shards.train(next(segments), scale) * scale

    else:
        unrolled, gradient = Unrolled(model, T, B), model.weights.like()
        weights, flat_gradient = model.weights.flat, gradient.flat
        state = model.zero_state(B)

        def nats_and_gradient() -> float:
            nonlocal state
            ids = next(segments)
            state = unrolled.forward(ids[:-1], state)
            nats, _ = unrolled.loss_and_gradient(ids[1:], gradient, scale)
            return float(nats.mean())

    optimizer = Adagrad(weights)

    def step() -> float:
        nats = nats_and_gradient()
        clip_norm_(flat_gradient, clip, norm(flat_gradient))
        optimizer.step_(weights, flat_gradient, rate)
        return nats

    if workers > 1:
        weakref.finalize(step, shards.close)
    return step


def started(task: Task, workers: int) -> Shards:
    """Shards with their worker processes, as many shards as training makes of so many streams and
    at least one for each process, when all processes are ready."""
    settings = [Setting("train.batch", task.B, "here"), Setting("train.length", task.T, "here")]
    config, _ = fitted(Config().updated(settings), sys.maxsize)
    sizes = Shape(task.cell, task.V, task.H, task.layers)
    job = Job(sizes, task.T, task.B, max(workers, int(config.train.shards)))
    shards = Shards(job, workers)
    shards.start_workers()
    while not all(worker.waits() for worker in shards.workers):
        time.sleep(0.01)
    return shards


def matrix_product(threads: int = 1) -> Run:
    """A large product of float32 matrices in each thread, 2 * SQUARE^3 operations."""
    rng = np.random.default_rng(2)
    a, b = (rng.random((SQUARE, SQUARE), np.float32) for _ in range(2))
    multiply = [
        partial(np.matmul, a.copy(), b.copy(), out=np.empty_like(a)) for _ in range(threads)
    ]
    if threads == 1:
        return multiply[0]
    pool = ThreadPoolExecutor(threads)  # NumPy lets other threads run while it multiplies
    return lambda: list(pool.map(lambda run: run(), multiply))


def flop(cell: str, V: int, H: int, layers: int) -> int:
    """Operations a character: each product once forward and twice backward, none for one-hot
    input."""
    G = len(CELLS[cell].gates)
    return 3 * 2 * (G * H * H + (layers - 1) * 2 * G * H * H + H * V)


def race(
    cell: str,
    V: int,
    H: int,
    layers: int,
    T: int,
    streams: Sequence[int],
    workers: int = 1,
    embedding: bool = False,
    peers: Sequence[str] = ("PyTorch",),
    rounds: int = 15,
) -> Found:
    """Everybody's rates with each number of streams, on `workers` cores. Peers that are not
    installed are left out."""
    torch = common.torch_or_none(workers) if "PyTorch" in peers else None
    runs: dict[tuple[str, int], Run] = {}
    prepare: dict[tuple[str, int], Run] = {}
    for B in streams:
        shape = Task(cell, V, H, layers, T, B)
        runs[OURS, B] = charlstm_step(*shape, workers)
        if torch:
            runs["PyTorch", B] = torch_step(torch, *shape, embedding)
            prepare["PyTorch", B] = partial(torch.set_num_threads, workers)
        if "JAX" in peers and common.installed("jax"):
            runs["JAX", B] = jax_step(*shape)
    work = {key: float(key[1] * T) for key in runs}
    runs[PRODUCT, SQUARE] = matrix_product(workers)
    work[PRODUCT, SQUARE] = workers * 2.0 * SQUARE**3
    if workers == 1:
        return common.interleave(runs, work, rounds=rounds, prepare=prepare)
    # several processes, or threads, take some steps until each has found its core
    return common.interleave(runs, work, 0.2, max(1, rounds * 2 // 3), prepare, warm=0.1)


def at_its_best(found: Found, name: str) -> tuple[Rates, int, int] | None:
    """The highest best and the highest median of a contestant, whatever the number of streams,
    and the numbers of streams at which it has them; None where it did not run."""
    rates = {B: rate for (who, B), rate in found.items() if who == name}
    if not rates:
        return None
    best = max(rates, key=lambda B: rates[B].best)
    middle = max(rates, key=lambda B: rates[B].median)
    return Rates(rates[best].best, rates[middle].median), best, middle


def rows(what: str, found: Found, operations: int, targets: Targets) -> list[Row]:
    """The comparisons with the contestants that `targets` names, each at its best number of
    streams; with the matrix product as the share of its rate that is reached."""

    def shown(name: str) -> str:
        rates, best, _ = at_its_best(found, name) or (Rates(0, 0), 0, 0)
        if name == PRODUCT:
            return f"{rates.best / 1e9:.1f} GFLOP/s"
        return f"{rates.best:,.0f} characters/s (B = {best})"

    mine = at_its_best(found, OURS)
    assert mine is not None
    lines = []
    for name, target in targets.items():
        theirs = at_its_best(found, name)
        if theirs is None:
            lines.append(Row(what, shown(OURS), name, "not installed", target=target))
            continue
        each = operations if name == PRODUCT else 1
        best, middle = (ours * each / his for ours, his in zip(mine[0], theirs[0], strict=True))
        lines.append(Row(what, shown(OURS), name, shown(name), best, middle, target))
    return lines


def settle(contest: Contest, workers: int, all_cores: bool, quick: bool = False) -> list[Row]:
    """Run a contest on so many cores; `all_cores` tells whether what is asked of all holds."""
    targets = contest.all if all_cores else contest.one
    sizes = contest.cell, contest.V, contest.H, contest.layers
    streams = [B for B in contest.streams if not quick or B in (32, 64)]
    rounds = 3 if quick else contest.rounds
    found = race(*sizes, T, streams, workers, contest.embedding, tuple(targets), rounds)
    what = f"{contest}, {f'all {workers} cores' if all_cores else 'one core'}"
    return rows(what, found, flop(*sizes), targets)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--length", type=int, default=T, help="steps of time")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--workers", type=int, default=1, help="cores (0: all)")
    parser.add_argument(
        "--embedding", action="store_true", help="PyTorch with nn.Embedding instead of one-hot"
    )
    parser.add_argument(
        "--fused", action="store_true", help="PyTorch with its fused Adagrad, not its usual one"
    )
    parser.add_argument("--jax", action="store_true", help="also JAX, on all cores")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--require", type=float, default=1.3, help="least ratio of the bests")
    common.add_json_option(parser)
    o = parser.parse_args()
    peers.FUSED = o.fused
    workers = o.workers or common.cores()
    others = ["PyTorch", *(["JAX"] if o.jax else [])]
    found = race(
        *(o.cell, o.vocabulary, o.hidden, o.layers, o.length, o.streams),
        *(workers, o.embedding, others, o.rounds),
    )
    what = (
        f"training, {o.cell}, hidden {o.hidden}, layers {o.layers}, vocabulary {o.vocabulary}, "
        f"{o.length} steps, float32, {workers} core{'s' * (workers > 1)}"
    )
    operations = flop(o.cell, o.vocabulary, o.hidden, o.layers)
    targets = {"PyTorch": o.require, **({"JAX": None} if o.jax else {}), PRODUCT: None}
    verdicts = rows(what, found, operations, targets)
    if o.json:
        return common.report(verdicts, as_json=True)

    names = list(dict.fromkeys(name for name, _ in found if name != PRODUCT))
    print(f"{what}; characters/s\n")
    head = ["streams", *(f"{name} {which}" for name in names for which in ("best", "median"))]
    lines = [[B, *(f"{rate:,.0f}" for n in names for rate in found[n, B])] for B in o.streams]
    print(common.table(head, lines))
    product = found[PRODUCT, SQUARE]
    print(
        f"\nmatrix product ({SQUARE}^3): {product.best / 1e9:.1f} GFLOP/s best, "
        f"{product.median / 1e9:.1f} median; {operations / 1e3:,.1f} kFLOP a character"
    )
    for row in verdicts:
        if row.best is None:
            print(f"{row.peer} is not installed: no ratio")
        else:
            print(
                f"charlstm / {row.peer}, each at its best number of streams: "
                f"{row.best:.2f} (bests), {row.median:.2f} (medians)"
            )
    if verdicts[0].best is None:
        return 0
    return common.judge(verdicts[0].best, o.require)


if __name__ == "__main__":
    raise SystemExit(main())
