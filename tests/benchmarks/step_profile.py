"""Where the time of a training step goes, on one core: its matrix products, each with the share of
the machine's rate that it reaches, and the element-wise work between them.

    python tests/benchmarks/step_profile.py --streams 128

The functions of a step are timed from outside, in their place; of each the least time of all
rounds is shown, which is when nothing else disturbed it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import common  # first: one thread each, before NumPy is loaded
from peers import CLIP, RATE, initial, texts
from train_speed import SQUARE, T, matrix_product

import charlstm.nn.recurrent
from charlstm.nn.cells import CELLS
from charlstm.nn.optimizers import Adagrad, clip_norm_, norm
from charlstm.nn.products import sum_products
from charlstm.nn.unrolled import Unrolled


class Clock:
    """Seconds by part of one step. The time of a part that is timed inside another is its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside = 0.0

    def timed(self, part: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run`, whose time counts for a part."""

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            before, self.inside = self.inside, 0.0
            start = time.perf_counter()
            result = run(*arguments, **keywords)
            seconds = time.perf_counter() - start
            self.seconds[part] += seconds - self.inside
            self.inside = before + seconds
            return result

        return wrapped


def in_turn(calls: list[Callable[[], object]]) -> None:
    """Do the calls."""
    for call in calls:
        call()


def watch(unrolled: Unrolled, clock: Clock) -> None:
    """Have the parts of a model timed."""
    for k, layer in enumerate(unrolled.layers):
        recurrent = layer.recurrent
        for calls in recurrent.forward_steps:
            product, *cell = calls
            calls[:] = [
                clock.timed("h Wh", product),
                clock.timed("cell, forward", partial(in_turn, cell)),
            ]
        for calls in recurrent.backward_steps:
            *cell, product, add_up = calls
            calls[:] = [
                clock.timed("cell, backward", partial(in_turn, cell)),
                clock.timed("dv Wh^T", product),
                clock.timed("sum over the gates", add_up),
            ]
        recurrent.cell = copy(recurrent.cell)
        recurrent.cell.derivatives = clock.timed(  # type: ignore[method-assign]
            "cell, local derivatives", recurrent.cell.derivatives
        )
        what = ("x Wx", "dWx and dx") if k else ("look-up of x Wx", "dWx, one-hot")
        prepare = clock.timed("weights laid out", layer.input.forward)

        def prepared(*arguments: Any, prepare: Any = prepare, part: str = what[0]) -> Any:
            return clock.timed(part, prepare(*arguments))

        layer.input.forward = prepared  # type: ignore[assignment, method-assign]
        layer.input.backward = clock.timed(  # type: ignore[method-assign]
            what[1], layer.input.backward
        )
    output = unrolled.output
    output.loss_and_gradient = clock.timed(  # type: ignore[method-assign]
        "output, softmax, dWy, dh", output.loss_and_gradient
    )
    setattr(charlstm.nn.recurrent, "sum_products", clock.timed("dWh", sum_products))  # noqa: B010


def operations(cell: str, V: int, H: int, layers: int, N: int) -> dict[str, int]:
    """Of the products of each part."""
    G = len(CELLS[cell].gates)
    square = 2 * N * G * H * H
    return {
        "h Wh": layers * square,
        "dv Wh^T": layers * square,
        "dWh": layers * square,
        "x Wx": (layers - 1) * square,
        "dWx and dx": 2 * (layers - 1) * square,
        "output, softmax, dWy, dh": 3 * 2 * N * H * V,
    }


def profile(cell: str, V: int, H: int, layers: int, B: int, rounds: int) -> dict[str, float]:
    """Least seconds of each part, and of the step itself."""
    model, segments = initial(cell, V, H, layers), texts(V, T, B)
    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    clock = Clock()
    watch(unrolled, clock)
    optimizer, state = Adagrad(model.weights.flat), model.zero_state(B)
    least: dict[str, float] = {}

    def descend() -> None:
        clip_norm_(gradient.flat, CLIP, norm(gradient.flat))
        optimizer.step_(model.weights.flat, gradient.flat, RATE)

    descend = clock.timed("clipping, Adagrad", descend)
    for n in range(rounds):
        ids = segments[n % len(segments)]
        clock.seconds.clear()
        start = time.perf_counter()
        state = unrolled.forward(ids[:-1], state)
        unrolled.loss_and_gradient(ids[1:], gradient, 1.0 / (T * B))
        descend()
        clock.seconds["the step"] = time.perf_counter() - start
        for part, seconds in clock.seconds.items():
            least[part] = min(seconds, least.get(part, seconds))
    return least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=60)
    o = parser.parse_args()
    sizes = o.cell, o.vocabulary, o.hidden, o.layers
    least = profile(*sizes, o.streams, o.rounds)
    rates = common.interleave({"product": matrix_product()}, {"product": 2.0 * SQUARE**3})
    rate, whole = rates["product"].best, least.pop("the step")
    made = operations(*sizes, T * o.streams)
    lines = []
    for part, seconds in sorted(least.items(), key=lambda item: -item[1]):
        flop = made.get(part, 0)
        reached = (
            [f"{flop / seconds / 1e9:.0f}", f"{flop / seconds / rate:.0%}"] if flop else ["–"] * 2
        )
        lines.append([part, f"{seconds * 1e3:.2f}", f"{seconds / whole:.0%}", *reached])
    products, rest = sum(made.values()), sum(s for part, s in least.items() if not made.get(part))
    print(
        f"{o.cell}, hidden {o.hidden}, layers {o.layers}, vocabulary {o.vocabulary}, "
        f"{o.streams} streams of {T} steps: {whole * 1e3:.2f} ms a step, "
        f"{T * o.streams / whole:,.0f} characters/s, {products / whole / rate:.0%} of the "
        f"{rate / 1e9:.0f} GFLOP/s of a product of {SQUARE}^3\n"
    )
    print(common.table(["part", "ms", "share", "GFLOP/s", "of the rate"], lines))
    print(
        f"\nAt that rate all products of the step would take {products / rate * 1e3:.2f} ms; the "
        f"parts that are no products take {rest * 1e3:.2f} ms."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
