"""Characters a second in sampling and in scoring, one thread each, interleaved with PyTorch.

Sampling draws character after character at temperature 0.8, each fed back, and turns ids into
text: this package through its public generator, PyTorch as such loops are written, with
`nn.LSTMCell` (or another cell), a linear layer, softmax and `multinomial` in inference mode.
Scoring reads one text as one stream: PyTorch in segments through its fused layer, `nn.LSTM`.

    python tests/benchmarks/sample_speed.py
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Rates, Row, Run

from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.sampler import Sampler
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.scoring.evaluation import surprisals
from charlstm.scoring.scorers import SEGMENT, StaticScorer
from charlstm.text.units import Characters

CHARACTERS, CHARACTERS_OF_MANY, CHARACTERS_SCORED = 2000, 200, 8 * SEGMENT
"""Of one text: a single one, one of many, one that is scored."""
TEMPERATURE = 0.8


def vocabulary(V: int) -> Characters:
    """V characters, equally frequent."""
    return Characters(np.arange(ord("!"), ord("!") + V, dtype=np.uint32), np.ones(V, np.int64))


def initial(cell: str, V: int, H: int) -> Model:
    """A model with random weights."""
    model = Model(Shape(cell, V, H))
    model.initialise(np.random.default_rng(0))
    return model


def charlstm_texts(cell: str, V: int, H: int, count: int, length: int) -> Run:
    """So many texts side by side, by this package."""
    model, characters = initial(cell, V, H), vocabulary(V)
    sampling = Sampling(length=length, temperature=TEMPERATURE)
    keys, seeds = itertools.count(), [Seed(np.zeros(1, np.int32), characters.units[0])] * count

    def texts() -> object:
        pieces = Sampler(model, characters, next(keys), sampling).pieces(seeds)
        written = "".join([piece.text for piece in pieces])
        assert len(written) == count * length
        return written

    return texts


def torch_texts(torch: Any, cell: str, V: int, H: int, count: int, length: int) -> Run:
    """The same by PyTorch."""
    torch.manual_seed(0)
    kind = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[cell]
    recurrent, linear, eye = kind(V, H), torch.nn.Linear(H, V), torch.eye(V)
    rows, characters = eye.split(1), vocabulary(V).units

    def drawn(shown: Any, state: Any) -> tuple[Any, Any]:
        state = recurrent(shown, state)
        logits = linear(state[0] if cell == "lstm" else state)
        return torch.multinomial(torch.softmax(logits / TEMPERATURE, 1), 1), state

    def begin() -> Any:
        zero = torch.zeros(count, H)
        return (zero, zero) if cell == "lstm" else zero

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def text() -> object:
        state, last, written = begin(), 0, []
        for _ in range(length):
            ids, state = drawn(rows[last], state)
            last = ids.item()
            written.append(characters[last])
        return "".join(written)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def texts() -> object:
        state, last, columns = begin(), torch.zeros(count, dtype=torch.long), []
        for _ in range(length):
            ids, state = drawn(eye[last], state)
            last = ids[:, 0]
            columns.append(last)
        written = torch.stack(columns, 1).tolist()
        return ["".join([characters[i] for i in ids]) for ids in written]

    run: Run = text if count == 1 else texts
    return run


def scored(V: int) -> Any:
    """A text of random ids."""
    return np.random.default_rng(1).integers(0, V, CHARACTERS_SCORED + 1)


def charlstm_score(cell: str, V: int, H: int) -> Run:
    """One text as one stream, by this package."""
    model, ids = initial(cell, V, H), scored(V)
    return lambda: surprisals(StaticScorer(model), ids)


def torch_score(torch: Any, cell: str, V: int, H: int) -> Run:
    """The same by PyTorch."""
    torch.manual_seed(0)
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    recurrent, linear, eye = kind(V, H), torch.nn.Linear(H, V), torch.eye(V)
    ids = torch.from_numpy(scored(V))
    cross_entropy = torch.nn.functional.cross_entropy

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def score() -> object:
        state, nats = None, []
        for start in range(0, CHARACTERS_SCORED, SEGMENT):
            part = ids[start : start + SEGMENT + 1]
            h, state = recurrent(eye[part[:-1]], state)
            nats.append(cross_entropy(linear(h), part[1:], reduction="none"))
        return torch.cat(nats)

    run: Run = score
    return run


def row(what: str, rates: dict[str, Rates], ours: str, theirs: str, target: float | None) -> Row:
    """One comparison of what was measured."""

    def shown(rate: Rates) -> str:
        return f"{rate.best:,.0f} characters/s"

    if theirs not in rates:
        return Row(what, shown(rates[ours]), theirs, "not installed", target=target)
    a, b = rates[ours], rates[theirs]
    return Row(
        what, shown(a), theirs, shown(b), a.best / b.best, a.median / b.median, target=target
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--count", type=int, default=256, help="streams side by side")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--require", type=float, default=6.0, help="least ratio of one stream to PyTorch's"
    )
    parser.add_argument(
        "--require-many", type=float, default=5.0, help="least ratio of many streams to one"
    )
    common.add_json_option(parser)
    o = parser.parse_args()
    torch = common.torch_or_none()
    shape = o.cell, o.vocabulary, o.hidden
    many = o.count, CHARACTERS_OF_MANY
    cell = f"PyTorch, {o.cell.upper()}Cell"
    runs: dict[str, Run] = {
        "one": charlstm_texts(*shape, 1, CHARACTERS),
        "many": charlstm_texts(*shape, *many),
        "score": charlstm_score(*shape),
    }
    work = {
        "one": float(CHARACTERS),
        "many": float(o.count * CHARACTERS_OF_MANY),
        "score": float(CHARACTERS_SCORED),
    }
    peers = {"one": cell, "many": f"{cell}, {o.count} streams", "score": "PyTorch, fused layer"}
    if torch:
        runs[peers["one"]] = torch_texts(torch, *shape, 1, CHARACTERS)
        runs[peers["many"]] = torch_texts(torch, *shape, *many)
        runs[peers["score"]] = torch_score(torch, *shape)
        work |= {peer: work[ours] for ours, peer in peers.items()}
    rates = common.interleave(runs, work, rounds=o.rounds)
    rates["itself, one stream"] = rates["one"]
    sampling = f"sampling, {o.cell} {o.hidden}, {o.vocabulary} characters"
    rows = [
        row(f"{sampling}, one stream", rates, "one", peers["one"], o.require),
        row(f"{sampling}, {o.count} streams", rates, "many", "itself, one stream", o.require_many),
        row(f"{sampling}, {o.count} streams", rates, "many", peers["many"], None),
        row("evaluate, one stream", rates, "score", peers["score"], None),
    ]
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
