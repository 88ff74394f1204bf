"""A model of words beside the same one in PyTorch: held-out perplexity after the same training.

Both are an LSTM over words, from the same weights, over the same words in the same order, by SGD
with the recipe of `configs/rnnlm.yaml`, but that the rate falls along a cosine: at 20 throughout,
training is so rough that other roundings, after a hundred steps, make another course, and the
perplexity where it happens to end is up to a third another. What is asked is that the held-out
perplexities are the same to 1 %, and the losses of the first steps to 1e-5.

    python tests/benchmarks/word_perplexity.py TEXT --vocabulary 2000 --epochs 2
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row

import charlstm
from charlstm.nn.model import Model
from charlstm.scoring.evaluation import surprisals
from charlstm.scoring.scorers import StaticScorer

TORCH_ORDER = [0, 1, 3, 2]
"""PyTorch's gates i, f, g, o among ours: i, f, o, g. It is its own inverse."""
SEGMENT = 500
"""Words that are scored at a time."""
FIRST = 6
"""Steps whose losses are the same but for rounding; at a rate of 20 a loss that leaps, as the
seventh does with 10,000 words, makes more of it."""


def settings(o: argparse.Namespace) -> dict[str, Any]:
    """What is changed of `configs/rnnlm.yaml`."""
    changes = {"train.epochs": o.epochs, "text.max_vocabulary": o.vocabulary}
    changes |= {"train.schedule": "cosine", "train.lr": o.lr}
    changes |= {"train.rng_seed": o.rng_seed, "train.workers": 1, "train.eval_every": 2**31 - 1}
    return changes


def torch_network(torch: Any, model: Model) -> Any:
    """The model's weights in PyTorch: an embedding, `nn.LSTM` and a linear layer."""
    V, H, w = model.V, model.H, model.weights
    D = model.shape.embedding

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(V, D)
            self.lstm, self.linear = torch.nn.LSTM(D, H), torch.nn.Linear(H, V)

        def forward(self, ids: Any, state: Any) -> Any:
            h, state = self.lstm(self.embedding(ids), state)
            return self.linear(h), state

    network = Network()
    lstm = network.lstm
    given = {
        network.embedding.weight: w["E"],
        lstm.weight_ih_l0: w["layer0.Wx"][TORCH_ORDER].transpose(0, 2, 1).reshape(4 * H, D),
        lstm.weight_hh_l0: w["layer0.Wh"][TORCH_ORDER].transpose(0, 2, 1).reshape(4 * H, H),
        lstm.bias_ih_l0: w["layer0.b"][TORCH_ORDER].reshape(4 * H),
        lstm.bias_hh_l0: np.zeros(4 * H),  # one bias is enough
        network.linear.weight: w["Wy"],
        network.linear.bias: w["by"],
    }
    with torch.no_grad():
        for parameter, array in given.items():
            parameter.copy_(torch.from_numpy(np.array(array, np.float32)))
    lstm.bias_hh_l0.requires_grad_(False)
    return network


def torch_losses(
    torch: Any, network: Any, ids: np.ndarray[Any, Any], rates: list[float], t: Any
) -> Iterator[float]:
    """Train on ids (N,) as the configuration's section `train` says, a step with each of the
    learning rates; yield their losses."""
    N, B, T = len(ids), t.batch, t.length
    text = torch.from_numpy(ids.astype(np.int64))
    places = torch.arange(B) * N // B + torch.arange(T + 1)[:, None]
    weights = [w for w in network.parameters() if w.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=rates[0])
    H = network.lstm.hidden_size
    state = (torch.zeros(1, B, H), torch.zeros(1, B, H))
    for step, optimizer.param_groups[0]["lr"] in enumerate(rates):
        segment = text[(places + step * T) % N]
        logits, state = network(segment[:-1], state)
        state = (state[0].detach(), state[1].detach())
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), segment[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, t.clip_norm)
        optimizer.step()
        yield float(loss.detach())


def torch_perplexity(torch: Any, network: Any, ids: np.ndarray[Any, Any]) -> float:
    """Of ids (N,) as one stream, the first of which is given."""
    text = torch.from_numpy(ids.astype(np.int64))
    H, total = network.lstm.hidden_size, 0.0
    state = (torch.zeros(1, 1, H), torch.zeros(1, 1, H))
    with torch.inference_mode():
        for at in range(0, len(text) - 1, SEGMENT):
            targets = text[at + 1 : at + 1 + SEGMENT]
            logits, state = network(text[at : at + len(targets), None], state)
            nats = torch.nn.functional.cross_entropy(logits[:, 0], targets, reduction="sum")
            total += float(nats)
    return math.exp(total / (len(text) - 1))


def compare(o: argparse.Namespace) -> Row:
    """Train both and measure them."""
    training = charlstm.train(o.text, config="rnnlm", settings=settings(o))
    corpus, t = training.corpus, training.config.train
    began = training.checkpoint().last.copy()
    records = [event for event in training if isinstance(event, charlstm.Record)]
    model = training.learner.model
    ids = corpus.valid[: o.scored]
    ours = math.exp(surprisals(StaticScorer(model), ids).mean())
    what = (
        f"held-out perplexity, {len(corpus.vocabulary):,} words, {len(corpus.train):,} trained on, "
        f"{training.step:,} steps"
    )
    torch = common.torch_or_none()
    if torch is None:
        return Row(what, f"{ours:.2f}", "PyTorch", "not installed")
    network = torch_network(torch, model.with_weights(began))
    losses = list(torch_losses(torch, network, corpus.train, [r.lr for r in records], t))
    np.testing.assert_allclose([r.train for r in records[:FIRST]], losses[:FIRST], rtol=1e-5)
    theirs = torch_perplexity(torch, network, ids)
    ratio = max(ours, theirs) / min(ours, theirs)
    return Row(
        what, f"{ours:.2f}", "PyTorch", f"{theirs:.2f}", ratio, target=o.within, at_most=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", metavar="TEXT", help="a file of text")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="words, <unk> included")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=20.0, help="where the cosine begins")
    parser.add_argument("--scored", type=int, default=50_000, help="held-out words at most")
    parser.add_argument("--within", type=float, default=1.01, help="largest ratio of the two")
    parser.add_argument("--rng-seed", type=int, default=0)
    common.add_json_option(parser)
    o = parser.parse_args()
    return common.report([compare(o)], o.json)


if __name__ == "__main__":
    raise SystemExit(main())
