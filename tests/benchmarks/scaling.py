"""Training on two MPI ranks against one: strong and weak scaling, and the model that predicts more.

A step takes the time to compute the gradient of a rank's streams, the time to add the gradients up
and the time of the update. For p ranks and n bytes the addition is taken to cost

    2 log2(p) L + 2 (p - 1) / p n / W

with the latency L and the bandwidth W of the links (R. Thakur, R. Rabenseifner, W. Gropp, 2005).
L and W are measured here between two ranks on one machine, the prediction for two ranks is held
against what they took, and for more ranks the figures of usual networks are put in.

    python tests/benchmarks/scaling.py

needs mpi4py and mpiexec (pip install 'charlstm[mpi]').
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from statistics import median

import common  # first: one thread each, before NumPy is loaded
import numpy as np

from charlstm.nn.optimizers import Adagrad, clip_norm_, norm
from charlstm.nn.shape import Shape
from charlstm.training.ranks import ranks
from charlstm.training.shards import Job, Shards

V, T, STREAMS = 65, 50, 64
SIZES = {100: 60, 512: 12, 2048: 2}
"""Hidden sizes, and how many steps are timed of each."""

NETWORKS = {"10 Gbit/s Ethernet": (30e-6, 1.1e9), "200 Gbit/s InfiniBand": (2e-6, 23e9)}
"""Latency in seconds and bandwidth in bytes a second, as such networks are usually measured."""


def weights(H: int) -> int:
    """Number of weights of the LSTM."""
    return Shape("lstm", V, H).size


def measure(H: int, B: int, steps: int) -> dict[str, float]:
    """One rank's part: median seconds of computing, adding up and updating, and of a step."""
    together = ranks()
    shards = Shards(Job(Shape("lstm", V, H), T, B, 1), 1)
    rng = np.random.default_rng(0)
    shards.weights[...] = rng.uniform(-0.05, 0.05, len(shards.weights))
    optimizer = Adagrad(shards.weights)
    taken: dict[str, list[float]] = {"compute": [], "add": [], "update": [], "step": []}
    for step in range(steps + 2):
        ids = rng.integers(0, V, (T + 1, B))
        together.add_(np.zeros(1))  # all begin together
        at = [time.perf_counter()]
        shards.train(ids, 1 / (T * B * together.size))
        at.append(time.perf_counter())
        together.add_(shards.gradient)
        at.append(time.perf_counter())
        clip_norm_(shards.gradient, 5.0, norm(shards.gradient))
        optimizer.step_(shards.weights, shards.gradient, 0.01)
        at.append(time.perf_counter())
        if step > 1:
            for name, seconds in zip(taken, np.diff(at), strict=False):
                taken[name].append(float(seconds))
            taken["step"].append(at[-1] - at[0])
    return {name: median(seconds) for name, seconds in taken.items()}


def links() -> dict[str, float]:
    """Latency and bandwidth by which two ranks here add up, from a short and a long message."""
    together = ranks()
    seconds = {}
    for n in (1, 1 << 22):
        array = np.zeros(n, np.float32)
        times = []
        for _ in range(30):
            start = time.perf_counter()
            together.add_(array)
            times.append(time.perf_counter() - start)
        seconds[n] = median(times)
    return {"latency": seconds[1] / 2, "bandwidth": 4 * (1 << 22) / (seconds[1 << 22] - seconds[1])}


def run(n: int, *arguments: object) -> dict[str, float]:
    """Start this file on n ranks; what rank 0 printed."""
    mpiexec = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or "mpiexec"
    done = subprocess.run(
        [mpiexec, "-n", str(n), sys.executable, __file__, "--rank", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def adding(p: int, size: float, latency: float, bandwidth: float) -> float:
    """Seconds that p ranks take to add up `size` bytes each."""
    return 2 * math.log2(p) * latency + 2 * (p - 1) / p * size / bandwidth


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", nargs="*", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--require", type=float, default=1.7, help="least weak scaling at H 100")
    o = parser.parse_args()
    if o.rank is not None:
        result = measure(*o.rank) if o.rank else links()
        if ranks().rank == 0:
            print(json.dumps(result))
        return 0
    if importlib.util.find_spec("mpi4py") is None:
        print("mpi4py is not installed: nothing to measure")
        return 0

    link = [run(2) for _ in range(o.rounds)]
    latency = median(each["latency"] for each in link)
    bandwidth = median(each["bandwidth"] for each in link)
    print(
        f"Two ranks on this machine: latency {latency * 1e6:.1f} us, "
        f"bandwidth {bandwidth / 1e9:.2f} GB/s of a sum\n"
    )
    rows, compute, update = [], {}, {}
    weak = 0.0
    for H, steps in SIZES.items():
        took: dict[str, list[dict[str, float]]] = {"one": [], "weak": [], "strong": []}
        for _ in range(o.rounds if H < 1000 else 2):
            took["one"].append(run(1, H, STREAMS, steps))
            took["weak"].append(run(2, H, STREAMS, steps))
            took["strong"].append(run(2, H, STREAMS // 2, steps))
        best = {name: min(each, key=lambda m: m["step"]) for name, each in took.items()}
        compute[H], update[H] = best["one"]["compute"], best["one"]["update"]
        predicted = compute[H] + adding(2, 4 * weights(H), latency, bandwidth) + update[H]
        one = best["one"]["step"]
        scaling = 2 * one / best["weak"]["step"]
        if H == 100:
            weak = scaling
        rows.append(
            [
                *(H, f"{4 * weights(H) / 1e6:.1f}", f"{one * 1e3:.1f}"),
                *(f"{best['weak']['step'] * 1e3:.1f}", f"{predicted * 1e3:.1f}"),
                *(f"{best['weak']['add'] * 1e3:.2f}", f"{scaling:.2f}"),
                f"{one / best['strong']['step']:.2f}",
            ]
        )
    head = ["H", "gradient, MB", "step on 1 rank, ms", "on 2 ranks, ms", "predicted, ms"]
    head += ["of it adding, ms", "weak scaling", "strong scaling"]
    print(f"{STREAMS} streams a rank (strong: in all), {T} steps, {V} characters:\n")
    print(common.table(head, rows))

    print("\nPredicted share of a step that computes, 64 streams a rank:\n")
    rows = []
    for name, (L, W) in NETWORKS.items():
        for H in SIZES:
            busy = compute[H] + update[H]
            shares = [busy / (busy + adding(p, 4 * weights(H), L, W)) for p in (8, 64, 512)]
            whole = adding(512, 4 * weights(H), L, W)
            streams = math.ceil(STREAMS * (whole / compute[H]))
            rows.append([name, H, *(f"{share:.0%}" for share in shares), streams])
    head = [
        "network",
        "H",
        "8 ranks",
        "64 ranks",
        "512 ranks",
        "streams at which adding is half, 512 ranks",
    ]
    print(common.table(head, rows))
    print(f"\nweak scaling on 2 ranks, H 100: {weak:.2f}")
    return common.judge(weak, o.require)


if __name__ == "__main__":
    raise SystemExit(main())
