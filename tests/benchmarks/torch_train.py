"""The recipe of `charlstm train`, written with PyTorch: what `time_to_loss.py` and `whole_run.py`
race against.

The same text, streams, first weights, resets, clipping, Adagrad and running average, the same
looks at the held-out text; so the losses are the same to rounding, and what differs is the time.
A program of its own, which shares nothing with this package.

    python tests/benchmarks/torch_train.py TEXT --log LOG --model FILE
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, dropout

RESET, FORGET_BIAS = 0.02, 1.0
WARM_UP, MOST_SCORED = 100, 400_000
"""Characters that each stream of held-out text reads before it is scored; and scored in all."""
CHUNK = 500
"""Steps of held-out text at a time."""
LOG_EVERY = 100
"""Steps between two lines of the log without a look."""

Look = tuple[int, int, float | None, torch.nn.Module]
"""Steps and characters done, held-out nats per character where they were asked for, and the network
that has them."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: by default as `charlstm train` does."""

    cell: str = "lstm"
    H: int = 100
    layers: int = 1
    tied: bool = False  # an embedding of width H, which is also the output's weights; else one-hot
    dropout: float = 0.0  # of whole segments at once, as configs/shakespeare.yaml has it
    adamw: bool = False  # with warm-up, along a cosine over `STEPS`; else Adagrad
    rate: float = 0.1
    clip: float = 5.0
    average: float = 0.99
    B: int = 32
    T: int = 50


SHAKESPEARE = Recipe(
    H=384,
    layers=2,
    tied=True,
    dropout=0.4,
    adamw=True,
    rate=0.003,
    clip=1.0,
    average=0.998,
    B=64,
    T=64,
)
"""The recipe of configs/shakespeare.yaml."""
STEPS, FIRST_STEPS, DECAY = 7000, 200, 0.01
"""AdamW's: steps of the cosine, those of the warm-up, and the weight decay."""

CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


class Network(torch.nn.Module):
    """One-hot or embedded input, recurrent layers, a linear layer."""

    def __init__(self, V: int, recipe: Recipe) -> None:
        super().__init__()
        H, self.recipe = recipe.H, recipe
        self.eye = torch.eye(V)
        self.embedding = torch.nn.Embedding(V, H) if recipe.tied else None
        cell = CELLS[recipe.cell]
        widths = [H if recipe.tied else V, *[H] * (recipe.layers - 1)]
        # a layer each: PyTorch's own dropout between layers differs from step to step
        self.layers = torch.nn.ModuleList(cell(D, H) for D in widths)
        self.linear = torch.nn.Linear(H, V)
        if self.embedding is not None:
            self.linear.weight = self.embedding.weight

    @torch.no_grad()
    def initialise(self, rng: np.random.Generator) -> None:
        """Where the recipe is the default, the weights that charlstm draws from such a generator;
        its gates are i, f, o, g. Others differ from its weights, but not in kind."""
        V, H = self.linear.weight.shape
        bound = 1.0 / math.sqrt(H)
        layers: Any = self.layers
        for lstm in layers:
            if self.recipe.cell == "lstm":
                D = lstm.weight_ih_l0.shape[1]
                for w, n in ((lstm.weight_ih_l0, D), (lstm.weight_hh_l0, H)):
                    drawn = rng.uniform(-bound, bound, (4, n, H))[[0, 1, 3, 2]].transpose(0, 2, 1)
                    w.copy_(torch.from_numpy(drawn.reshape(4 * H, n)))
                lstm.bias_ih_l0.zero_()[H : 2 * H] = FORGET_BIAS
                lstm.bias_hh_l0.zero_().requires_grad_(False)  # one bias is enough
        self.linear.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, (V, H))))
        self.linear.bias.zero_()

    def dropped(self, x: Any) -> Any:
        """x (T, B, H), of which the same is dropped at every step."""
        if not (self.training and self.recipe.dropout):
            return x
        return x * dropout(torch.ones_like(x[:1]), self.recipe.dropout)

    def forward(self, ids: Any, states: list[Any]) -> Any:
        x = self.eye[ids] if self.embedding is None else self.dropped(self.embedding(ids))
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            x, state = layer(x, state)
            x = self.dropped(x)
            after.append(state)
        return self.linear(x), after

    def zero_states(self, B: int) -> list[Any]:
        """The states of B streams before anything is read."""
        zero = torch.zeros(1, B, self.recipe.H)
        state = (zero, zero) if self.recipe.cell == "lstm" else zero
        return [state] * self.recipe.layers


def each(states: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    """The states, each tensor of them changed."""
    return [tuple(map(change, s)) if isinstance(s, tuple) else change(s) for s in states]


class HeldOut:
    """Held-out text as B streams side by side."""

    def __init__(self, ids: np.ndarray[Any, Any], B: int) -> None:
        last = len(ids) - 1
        L = math.ceil(last / B)
        scored = min(L, math.ceil(MOST_SCORED / B))
        self.warm_up = min(WARM_UP, L)
        places = np.arange(B) * L + np.arange(-self.warm_up, scored + 1)[:, None]
        self.ids = torch.from_numpy(ids[np.clip(places, 0, last)])
        self.counted = torch.from_numpy(places[self.warm_up + 1 :] <= last)

    @torch.inference_mode()
    def nats_per_char(self, network: Network) -> float:
        states = network.zero_states(self.ids.shape[1])
        _, states = network(self.ids[: self.warm_up], states)
        first = torch.ones(1, self.ids.shape[1], 1)
        first[:, 0] = 0.0  # nothing stands before the first stream
        states = each(states, lambda s: s * first)
        ids, total = self.ids[self.warm_up :], 0.0
        for start in range(0, len(self.counted), CHUNK):
            targets = ids[start + 1 : start + 1 + CHUNK]
            logits, states = network(ids[start : start + len(targets)], states)
            nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            total += float(nats[self.counted[start : start + CHUNK].flatten()].double().sum())
        return total / int(self.counted.sum())


def train(text: str, recipe: Recipe, every: int, seed: int = 0) -> Iterator[Look]:
    """Train without end; a look at the held-out text every so many steps, and the count of what is
    done every `LOG_EVERY`."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    characters = np.unique(points)
    ids = np.searchsorted(characters, points)
    cut, B, T = int(len(ids) * 0.9), recipe.B, recipe.T
    held_out = HeldOut(ids[cut:], B)
    cut = text.rfind("\n", cut - cut // 10, cut) + 1 or cut  # no line that the cut goes through
    learnt = torch.from_numpy(ids[:cut])
    places = torch.arange(B) * cut // B + torch.arange(T + 1)[:, None]

    rng = np.random.default_rng(seed)
    network, average = Network(len(characters), recipe), Network(len(characters), recipe)
    network.initialise(rng)
    average.load_state_dict(network.state_dict())
    average.requires_grad_(False).eval()
    averaged = [
        (a, w)
        for a, w in zip(average.parameters(), network.parameters(), strict=True)
        if w.requires_grad
    ]
    weights = [w for _, w in averaged]
    optimizer: torch.optim.Optimizer
    if recipe.adamw:
        optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=DECAY, fused=True)
    else:
        optimizer = torch.optim.Adagrad(weights, lr=recipe.rate, eps=1e-8, fused=True)
    states = network.zero_states(B)
    step = 0
    while True:
        if recipe.adamw:
            warm = min(1.0, (step + 1) / (FIRST_STEPS + 1))
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        segment = learnt[(places + step * T) % cut]
        afresh = rng.random(B) < RESET
        if afresh.any():
            kept = torch.from_numpy(~afresh).float()[None, :, None]
            states = each(states, lambda s: s * kept)  # noqa: B023
        logits, states = network(segment[:-1], states)
        states = each(states, lambda s: s.detach())
        loss = cross_entropy(logits.flatten(0, 1), segment[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        step += 1
        decay = min(recipe.average, step / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in averaged], tuple(weights), 1.0 - decay)
        if step % every == 0:
            yield step, step * B * T, held_out.nats_per_char(average), average
        elif step % LOG_EVERY == 0:
            yield step, step * B * T, None, average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--log", required=True, help="where each look goes, a JSON object a line")
    parser.add_argument("--model", required=True, help="where the best weights go")
    parser.add_argument("--every", type=int, default=200, help="steps between two looks")
    parser.add_argument("--rng-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="instead of as many as PyTorch likes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--recipe", choices=["default", "shakespeare"], default="default")
    parser.add_argument("--cell", choices=list(CELLS), default="lstm")
    parser.add_argument("--streams", type=int, help="instead of the recipe's")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    recipe = SHAKESPEARE if o.recipe == "shakespeare" else Recipe(cell=o.cell)
    recipe = replace(recipe, B=o.streams or recipe.B)
    best, start = math.inf, time.monotonic()
    with open(o.log, "w", encoding="utf-8") as log:
        text = Path(o.text).read_text(encoding="utf-8")
        for step, chars, valid, network in train(text, recipe, o.every, o.rng_seed):
            if valid is not None and valid < best:
                best = valid
                torch.save(network.state_dict(), o.model)
            seconds = time.monotonic() - start
            line = {"step": step, "chars": chars, "seconds": seconds, "valid": valid}
            print(json.dumps(line), file=log, flush=True)
            if seconds > o.seconds:
                break


if __name__ == "__main__":
    main()
