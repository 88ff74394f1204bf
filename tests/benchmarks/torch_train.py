"""The recipe of `charlstm train`, written with PyTorch: what `time_to_loss.py` races against.

The same text, streams, first weights, resets, clipping, Adagrad and running average, the same
looks at the held-out text; so the losses are the same to rounding, and what differs is the time.
A program of its own, which shares nothing with this package.

    python tests/benchmarks/torch_train.py TEXT --log LOG --model FILE
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

RATE, CLIP, AVERAGE, RESET, FORGET_BIAS = 0.1, 5.0, 0.99, 0.02, 1.0
WARM_UP, MOST_SCORED = 100, 400_000
"""Characters that each stream of held-out text reads before it is scored; and scored in all."""
CHUNK = 500
"""Steps of held-out text at a time."""

Look = tuple[int, float, torch.nn.Module]
"""Steps done, held-out nats per character, and the network that has them."""


class Network(torch.nn.Module):
    """One-hot input, `nn.LSTM`, a linear layer."""

    def __init__(self, V: int, H: int) -> None:
        super().__init__()
        self.eye = torch.eye(V)
        self.lstm = torch.nn.LSTM(V, H)
        self.linear = torch.nn.Linear(H, V)

    @torch.no_grad()
    def initialise(self, rng: np.random.Generator) -> None:
        """The weights that charlstm draws from such a generator; its gates are i, f, o, g."""
        V, H = self.linear.weight.shape
        bound = 1.0 / math.sqrt(H)
        lstm: Any = self.lstm
        for w, D in ((lstm.weight_ih_l0, V), (lstm.weight_hh_l0, H)):
            drawn = rng.uniform(-bound, bound, (4, D, H))[[0, 1, 3, 2]].transpose(0, 2, 1)
            w.copy_(torch.from_numpy(drawn.reshape(4 * H, D)))
        lstm.bias_ih_l0.zero_()[H : 2 * H] = FORGET_BIAS
        lstm.bias_hh_l0.zero_().requires_grad_(False)  # one bias is enough
        self.linear.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, (V, H))))
        self.linear.bias.zero_()

    def forward(self, ids: Any, state: Any) -> Any:
        h, state = self.lstm(self.eye[ids], state)
        return self.linear(h), state


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
        zero = torch.zeros(1, self.ids.shape[1], network.lstm.hidden_size)
        _, state = network.lstm(network.eye[self.ids[: self.warm_up]], (zero, zero))
        for s in state:
            s[:, 0] = 0.0  # nothing stands before the first stream
        ids, total = self.ids[self.warm_up :], 0.0
        for start in range(0, len(self.counted), CHUNK):
            targets = ids[start + 1 : start + 1 + CHUNK]
            logits, state = network(ids[start : start + len(targets)], state)
            nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            total += float(nats[self.counted[start : start + CHUNK].flatten()].double().sum())
        return total / int(self.counted.sum())


def train(
    text: str, H: int = 100, B: int = 32, T: int = 50, every: int = 200, seed: int = 0
) -> Iterator[Look]:
    """Train without end; a look every so many steps."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    characters = np.unique(points)
    ids = np.searchsorted(characters, points)
    cut = int(len(ids) * 0.9)
    held_out = HeldOut(ids[cut:], B)
    cut = text.rfind("\n", cut - cut // 10, cut) + 1 or cut  # no line that the cut goes through
    learnt = torch.from_numpy(ids[:cut])
    places = torch.arange(B) * cut // B + torch.arange(T + 1)[:, None]

    rng = np.random.default_rng(seed)
    network, average = Network(len(characters), H), Network(len(characters), H)
    network.initialise(rng)
    average.load_state_dict(network.state_dict())
    average.requires_grad_(False)
    averaged = [
        (a, w)
        for a, w in zip(average.parameters(), network.parameters(), strict=True)
        if w.requires_grad
    ]
    weights = [w for _, w in averaged]
    optimizer = torch.optim.Adagrad(weights, lr=RATE, eps=1e-8, fused=True)
    state = (torch.zeros(1, B, H), torch.zeros(1, B, H))
    step = 0
    while True:
        segment = learnt[(places + step * T) % cut]
        afresh = rng.random(B) < RESET
        if afresh.any():
            for s in state:
                s[:, torch.from_numpy(afresh)] = 0.0
        logits, state = network(segment[:-1], state)
        state = (state[0].detach(), state[1].detach())
        loss = cross_entropy(logits.flatten(0, 1), segment[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        step += 1
        decay = min(AVERAGE, step / (step + 10))
        with torch.no_grad():
            for a, w in averaged:
                a.lerp_(w, 1.0 - decay)
        if step % every == 0:
            yield step, held_out.nats_per_char(average), average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--log", required=True, help="where each look goes, a JSON object a line")
    parser.add_argument("--model", required=True, help="where the best weights go")
    parser.add_argument("--every", type=int, default=200, help="steps between two looks")
    parser.add_argument("--rng-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="instead of as many as PyTorch likes")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    best = math.inf
    with open(o.log, "w", encoding="utf-8") as log:
        text = Path(o.text).read_text(encoding="utf-8")
        for step, valid, network in train(text, every=o.every, seed=o.rng_seed):
            if valid < best:
                best = valid
                torch.save(network.state_dict(), o.model)
            print(json.dumps({"step": step, "valid": valid}), file=log, flush=True)


if __name__ == "__main__":
    main()
