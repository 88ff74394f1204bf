"""How far back a model learns: the gradient of one step's loss along the steps before it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.nn.cells import perform
from charlstm.nn.model import Model
from charlstm.nn.shape import State
from charlstm.scoring.trace import trace
from charlstm.text.vocabulary import UNKNOWN

POSITIONS = 256
"""Places of a text, at most, whose losses are followed back."""


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` measures."""

    norms: dict[str, Array]
    """By name of the state (layer0.h, layer0.c, …), the mean norm at each lag, (K + 1,)."""
    positions: int  # losses that the mean is of

    def to_dict(self) -> dict[str, int | dict[str, list[float]]]:
        norms = {name: values.tolist() for name, values in self.norms.items()}
        return {"positions": self.positions, "norms": norms}


def gradient_flow(
    model: Model, ids: Array, lags: int = 50, charged: int = UNKNOWN, unit: str = "character"
) -> GradientFlow:
    """Norms of d loss_t / d h_(t-k), k = 0 … `lags`, for each layer's h and, of an LSTM, c.

    loss_t is the cross-entropy of the single step t, in nats. The derivative is the total one in
    the graph of the unrolled network, by all paths from the value to the loss, as backpropagation
    through time computes it: h_(t-k) acts on the layer above in its own step and through Wh on
    every later one; c_(t-k) acts on the c after it and, through the output gate, on h_(t-k). So at
    k = 0 the top layer's dh is what the output hands down, and dc = dh * o * (1 - tanh(c)^2).
    Compare h of an RNN and a GRU with c of an LSTM: there the way from step to step is without a
    matrix, dc = dc' * f (S. Hochreiter, J. Schmidhuber, 1997).

    ids (N,) are read as one stream from a zero state, in pieces of `lags` + 1 steps; the loss of
    the last step of each is followed back to the first. The result are means of Euclidean norms
    over at most `POSITIONS` pieces, the first of the text, without those whose next unit is
    `charged`, outside the vocabulary. All is float64: float32 would underflow too early. Raises
    `CorpusError`, which calls the units `unit`, where no piece is left.
    """
    ids, steps = np.asarray(ids, np.intp), lags + 1
    B = min(POSITIONS, (len(ids) - 1) // steps)
    pieces = ids[: B * steps].reshape(B, steps)
    targets = ids[steps : B * steps + 1 : steps]
    counted = targets != charged
    if not counted.any():
        raise CorpusError(
            f"the text has {len(ids):,} {unit}s; to follow a loss {lags} steps back it takes "
            f"{steps + 1:,}, the last of them in the vocabulary"
        )
    wide = model.with_weights(model.weights.flat.astype(np.float64))
    befores = [wide.zero_state(1)]  # the state before each piece
    for piece in pieces[:-1]:
        *_, last = trace(wide, piece[:, None], befores[-1])
        befores.append([s for step in last for s in step.state])
    before = [np.concatenate(s)[counted] for s in zip(*befores, strict=True)]
    kept, top = [], np.empty(0)
    for done in trace(wide, pieces[counted].T, before):
        top = done[-1].state[0]
        kept.append([step.derivatives(wide.cell) for step in done])
    dh, norms = gradient_of_loss(wide, top, targets[counted]), []
    for dstate, _ in backward(wide, reversed(kept), dh):
        norms.append([np.linalg.norm(ds, axis=1).mean() for ds in dstate])
    by_state = zip(wide.shape.states, np.array(norms).T, strict=True)
    return GradientFlow(dict(by_state), int(counted.sum()))


def gradient_of_loss(model: Model, h: Array, targets: Array) -> Array:
    """dh (B, H) of what the uppermost layer shows, h (B, H): p - onehot(target), through the output
    weights."""
    y = h @ model.Wy.T + model.weights["by"]
    p = np.exp(y - y.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(p)), targets] -= 1.0
    return np.asarray(p @ model.Wy)


def backward(model: Model, kept: Iterable[list[Array]], dh: Array) -> Iterator[tuple[State, Array]]:
    """Follow dh (B, H), the gradient of what the model shows after a step, back through that step
    and those before it, the last first.

    `kept` are the local derivatives (D, B, H) of each layer in these steps, which are written
    over. Yield for each the gradients, by all paths, of the state after it, and that of u
    (G, B, H) of the lowest layer in it.
    """
    cell, shape, w = model.cell, model.shape, model.weights
    dstate = shape.by_layer([np.zeros((len(dh), H)) for H in shape.states.values()])
    dstate[-1][0] += dh
    for step in kept:
        by_all_paths: State = []
        for k in reversed(range(shape.layers)):
            d, dafter = step[k], dstate[k]
            dbefore = [np.empty_like(ds) for ds in dafter]
            perform(cell.backward(d, dafter, dbefore))  # completes dafter
            by_all_paths = dafter + by_all_paths
            if k:  # what the layer below shows in the same step
                Wx = w[f"layer{k}.Wx"]
                dstate[k - 1][0] += np.matmul(d[cell.du], Wx.transpose(0, 2, 1)).sum(axis=0)
            through = np.matmul(d[cell.dv], w[f"layer{k}.Wh"].transpose(0, 2, 1)).sum(axis=0)
            dbefore[0] = through + dbefore[0] if cell.direct else through
            dstate[k] = dbefore
        yield by_all_paths, step[0][cell.du]
