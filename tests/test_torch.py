"""The same numbers as PyTorch, where it is installed: an implementation that shares nothing with
this one but the equations.

Weights are carried over (`carry_over`); then logits, losses, every gradient and the course of
training must agree. PyTorch orders the gates i, f, g, o and r, z, n, keeps one bias for the input
and one for the recurrent side, and stacks the gates in rows of (gates * H, D) matrices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import CORPORA

import charlstm
from charlstm.nn.dropout import Draws, Drops
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS, Adagrad, clip_norm_, norm
from charlstm.nn.shape import Shape, State
from charlstm.nn.unrolled import Unrolled

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # at these sizes a second thread only costs

Array = NDArray[Any]
Float = type[np.floating[Any]]

ORDER = {"rnn": ("h",), "gru": ("r", "q", "n"), "lstm": ("i", "f", "g", "o")}
"""The gates in PyTorch's order; what it calls z is q here."""

T, B, V, H = 12, 4, 9, 6

every_cell = pytest.mark.parametrize("cell", list(ORDER))
every_depth = pytest.mark.parametrize("layers", [1, 2])
every_dtype = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)]
)


class Peer(torch.nn.Module):  # type: ignore[misc, name-defined]
    """One-hot input, PyTorch's own recurrent layers, and a linear layer."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[model.cell.name]
        dtype = torch.float64 if model.dtype == np.float64 else torch.float32
        self.recurrent = kind(model.V, model.H, model.shape.layers, dtype=dtype)
        self.linear = torch.nn.Linear(model.H, model.V, dtype=dtype)
        self.eye = torch.eye(model.V, dtype=dtype)
        self.carry_over(model)

    def carry_over(self, model: Model) -> None:
        """Take the weights of `model`. The one bias goes to the input side; the recurrent side's
        is zero and stays so."""
        order = [model.cell.gates.index(gate) for gate in ORDER[model.cell.name]]
        with torch.no_grad():
            for k in range(model.shape.layers):
                for name, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh")):
                    w = model.weights[f"layer{k}.{name}"][order]  # (G, D, H)
                    rows = np.concatenate(w.transpose(0, 2, 1))  # (G * H, D)
                    getattr(self.recurrent, f"{theirs}_l{k}").copy_(torch.from_numpy(rows))
                b = model.weights[f"layer{k}.b"][order].reshape(-1)
                getattr(self.recurrent, f"bias_ih_l{k}").copy_(torch.from_numpy(b))
                bias = getattr(self.recurrent, f"bias_hh_l{k}")
                bias.zero_()
                bias.requires_grad_(False)
            self.linear.weight.copy_(torch.from_numpy(model.weights["Wy"]))
            self.linear.bias.copy_(torch.from_numpy(model.weights["by"]))

    def brought_back(self, model: Model, gradient: bool) -> dict[str, Array]:
        """The weights, or their gradients, under the names and in the shapes of `model`."""
        G, order = (
            len(model.cell.gates),
            [ORDER[model.cell.name].index(gate) for gate in model.cell.gates],
        )

        def numbers(p: Any) -> Array:
            array: Array = (p.grad if gradient else p.detach()).numpy()
            return array

        found = {}
        for k in range(model.shape.layers):
            for name, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh")):
                rows = numbers(getattr(self.recurrent, f"{theirs}_l{k}"))
                gates = rows.reshape(G, model.H, -1).transpose(0, 2, 1)
                found[f"layer{k}.{name}"] = gates[order]
            b = numbers(getattr(self.recurrent, f"bias_ih_l{k}"))
            found[f"layer{k}.b"] = b.reshape(G, 1, model.H)[order]
        found["Wy"], found["by"] = numbers(self.linear.weight), numbers(self.linear.bias)
        return found

    def state(self, arrays: State) -> Any:
        """A state of ours as PyTorch takes it: h (layers, B, H), or h and c."""
        n = 2 if isinstance(self.recurrent, torch.nn.LSTM) else 1
        stacked = [torch.from_numpy(np.stack(arrays[s::n])) for s in range(n)]
        return tuple(stacked) if n == 2 else stacked[0]

    def forward(self, ids: Array, state: Any) -> tuple[Any, Any]:
        """Logits (T, B, V) and the state after."""
        shown, after = self.recurrent(self.eye[torch.from_numpy(ids)], state)
        return self.linear(shown), after


def pair(cell: str, layers: int, dtype: Float, spread: float = 0.4) -> tuple[Model, Peer]:
    """A model and its peer with the same weights, biases included."""
    model = Model(Shape(cell, V, H, layers), dtype)
    rng = np.random.default_rng(1)
    model.weights.flat[...] = rng.normal(0.0, spread, model.weights.flat.shape)
    return model, Peer(model)


def assert_close(got: Array, expected: Array, tolerance: float) -> None:
    """Equal to `tolerance` of the largest number, or of 1 where all are smaller."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance * scale)


@every_dtype
@every_depth
@every_cell
def test_one_pass(cell: str, layers: int, dtype: Float, tolerance: float) -> None:
    """Logits, losses, the state after and all gradients: those of the weights and, with the
    gradient of the state after handed in, those of the state before."""
    model, peer = pair(cell, layers, dtype)
    rng = np.random.default_rng(2)
    ids = rng.integers(0, V, (T + 1, B))
    state = [rng.normal(0.0, 0.5, s.shape).astype(dtype) for s in model.zero_state(B)]
    dstate = [rng.normal(0.0, 0.5, s.shape).astype(dtype) for s in state]

    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    after = unrolled.forward(ids[:-1], state)
    nats, dbefore = unrolled.loss_and_gradient(ids[1:], gradient, 1.0 / B, dstate)

    leaves = [torch.from_numpy(s.copy()).requires_grad_() for s in state]
    n = len(model.cell.states)
    stacked = [torch.stack(leaves[s::n]) for s in range(n)]
    logits, their_after = peer(ids[:-1], tuple(stacked) if n == 2 else stacked[0])
    targets = torch.from_numpy(ids[1:].copy())
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, V), targets.reshape(-1), reduction="none"
    )
    their_after = list(their_after) if n == 2 else [their_after]
    flat_after = [their_after[s][k] for k in range(layers) for s in range(n)]
    objective = losses.sum() / B
    for d, s in zip(dstate, flat_after, strict=True):
        objective = objective + (torch.from_numpy(d) * s).sum()
    objective.backward()

    assert_close(unrolled.logits(), logits.detach().numpy(), tolerance)
    assert_close(nats, losses.detach().numpy().reshape(T, B), tolerance)
    for ours, theirs in zip(after, flat_after, strict=True):
        assert_close(ours, theirs.detach().numpy(), tolerance)
    expected = peer.brought_back(model, gradient=True)
    assert set(expected) == set(model.weights)
    for name, g in expected.items():
        assert np.abs(g).max() > 1e-3  # there is something to compare
        assert_close(gradient[name], g, tolerance)
    for ours, leaf in zip(dbefore, leaves, strict=True):
        assert_close(ours, leaf.grad.numpy(), tolerance)


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adam"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@every_depth
@every_cell
def test_fifty_steps_of_training(
    cell: str, layers: int, dtype: Float, tolerance: float, optimizer: str
) -> None:
    """Losses and, at the end, weights stay with PyTorch's over fifty steps of truncated
    backpropagation with the state carried, the gradient clipped by its norm in some steps and
    not in others."""
    model, peer = pair(cell, layers, dtype)
    start = model.weights.flat.copy()
    trained = [p for p in peer.parameters() if p.requires_grad]
    rate = {"adagrad": 0.05, "sgd": 0.3, "adam": 0.02}[optimizer]
    limit = 0.4 if optimizer == "adam" else 0.3
    theirs: Any = torch.optim.SGD(trained, lr=rate)
    if optimizer == "adagrad":
        theirs = torch.optim.Adagrad(trained, lr=rate, eps=Adagrad.epsilon)
    elif optimizer == "adam":
        theirs = torch.optim.Adam(trained, lr=rate)
    ours = OPTIMIZERS[optimizer](model.weights.flat)
    text = np.arange(50 * 8 * B + 1) ** 2 % V  # something that can be learnt
    streams = np.stack([text[k * 50 * 8 :][: 50 * 8 + 1] for k in range(B)], axis=1)  # (401, B)
    unrolled, gradient = Unrolled(model, 8, B), model.weights.like()
    state, their_state = model.zero_state(B), peer.state(model.zero_state(B))
    course, their_course, clipped = [], [], 0
    for k in range(0, 400, 8):
        ids, targets = streams[k : k + 8], streams[k + 1 : k + 9]
        state = unrolled.forward(ids, state)
        nats, _ = unrolled.loss_and_gradient(targets, gradient, 1.0 / ids.size)
        course.append(float(nats.mean()))
        length = norm(gradient.flat)
        clipped += length > limit
        clip_norm_(gradient.flat, limit, length)
        ours.step_(model.weights.flat, gradient.flat, rate)

        logits, their_state = peer(ids, their_state)
        their_state = (
            tuple(s.detach() for s in their_state)
            if isinstance(their_state, tuple)
            else their_state.detach()
        )
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, V), torch.from_numpy(targets).reshape(-1)
        )
        theirs.zero_grad()
        loss.backward()
        same_limit = limit * (1.0 + 1e-6 / length)  # PyTorch divides by the norm + 1e-6
        their_length = float(torch.nn.utils.clip_grad_norm_(trained, same_limit))
        theirs.step()
        their_course.append(float(loss.detach()))
        assert length == pytest.approx(their_length, rel=10 * tolerance)
    assert 0 < clipped < 50
    np.testing.assert_allclose(course, their_course, rtol=tolerance, atol=tolerance)
    assert course[-1] < 0.9 * course[0]
    assert np.abs(model.weights.flat - start).max() > 0.1
    for name, w in peer.brought_back(model, gradient=False).items():
        assert_close(model.weights[name], w, 10 * tolerance)


@every_cell
def test_evaluate_on_a_checkpoint(cell: str, tmp_path: Path) -> None:
    """A model that was trained, saved and loaded gets from `evaluate` what PyTorch gets when it
    reads the whole text at once with the checkpoint's weights."""
    corpus = CORPORA / "ferry.txt"
    settings = {"train.steps": 40, "model.cell": cell, "model.hidden": 30}
    for _ in charlstm.train(corpus, tmp_path / "m.npz", settings=settings):
        pass
    language = charlstm.load(tmp_path / "m.npz")
    text = corpus.read_text(encoding="utf-8")[-1500:]
    ids = language.vocabulary.encode(text).astype(np.int64)[:, None]
    model = language.checkpoint.model()
    peer = Peer(model)
    with torch.no_grad():
        logits, _ = peer.forward(ids[:-1], peer.state(model.zero_state(1)))
        loss = torch.nn.functional.cross_entropy(logits[:, 0], torch.from_numpy(ids[1:, 0]))
    assert language.evaluate(text).nats_per_char == pytest.approx(float(loss), abs=1e-5)


ENDS: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedded": {"embedding": 5},
    "tied": {"embedding": H, "tie": True},
    "tied-projected": {"embedding": 5, "tie": True},
}


def of_torch(
    model: Model, unrolled: Unrolled, leaves: dict[str, Any], state: list[Any]
) -> tuple[Any, list[Any]]:
    """Logits (T, B, V) and the state after, by PyTorch's own embedding, layers and linear map, of
    the weights `leaves` (named and shaped as ours) and with the masks of the last `forward`."""

    def masked(x: Any, k: int) -> Any:
        factors = unrolled.dropouts[k].factors
        return x if factors is None else x * torch.from_numpy(factors)

    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[model.cell.name]
    order = [model.cell.gates.index(gate) for gate in ORDER[model.cell.name]]
    dtype = next(iter(leaves.values())).dtype
    rows = leaves["E"] if model.shape.embedding else torch.eye(model.V, dtype=dtype)
    rows = torch.cat([rows, torch.zeros(1, rows.shape[1], dtype=dtype)])  # of an unknown character
    ids = torch.from_numpy(np.where(unrolled.ids < 0, model.V, unrolled.ids))
    x = masked(torch.nn.functional.embedding(ids, rows), 0)
    n, after = len(model.cell.states), []
    for k, width in enumerate(model.shape.widths):
        Wx, Wh, b = (leaves[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b"))
        factors = unrolled.layers[k].weight_dropout.factors
        Wh = Wh if factors is None else Wh * torch.from_numpy(factors)
        weights = {
            "weight_ih_l0": Wx[order].transpose(1, 2).reshape(-1, x.shape[-1]),
            "weight_hh_l0": Wh[order].transpose(1, 2).reshape(-1, width),
            "bias_ih_l0": b[order].reshape(-1),
            "bias_hh_l0": torch.zeros(b.numel(), dtype=dtype),
        }
        layer = kind(x.shape[-1], width, dtype=dtype)
        before = tuple(s[None] for s in state[k * n : (k + 1) * n])
        arguments = (x, before if n == 2 else before[0])
        x, ends = torch.func.functional_call(layer, weights, arguments)
        after += [s[0] for s in (ends if n == 2 else (ends,))]
        x = masked(x, k + 1)
    if "Wp" in leaves:
        x = x @ leaves["Wp"]
    Wy = leaves["E"] if model.shape.tie else leaves["Wy"]
    return torch.nn.functional.linear(x, Wy, leaves["by"]), after


@pytest.mark.parametrize(
    "drops",
    [
        Drops(),
        Drops(dropout=0.4),
        Drops(dropout=0.4, variational=True, weight_drop=0.3, input_drop=0.2),
    ],
    ids=["nothing", "dropout", "all-drops"],
)
@pytest.mark.parametrize("ends", ENDS)
@every_dtype
@every_depth
@every_cell
def test_the_whole_family(
    cell: str, layers: int, dtype: Float, tolerance: float, ends: str, drops: Drops
) -> None:
    """Embedding, tying, layers of different widths and, with our masks fed to PyTorch, dropout:
    logits, losses, state and all gradients."""
    hidden = (H,) if layers == 1 else (4, H)
    model = Model(Shape(cell, V, hidden, layers, **ENDS[ends]), dtype)
    rng = np.random.default_rng(3)
    model.weights.flat[...] = rng.normal(0.0, 0.4, model.weights.flat.shape)
    ids = rng.integers(0, V, (T + 1, B))
    state = [rng.normal(0.0, 0.5, s.shape).astype(dtype) for s in model.zero_state(B)]
    dstate = [rng.normal(0.0, 0.5, s.shape).astype(dtype) for s in state]

    unrolled, gradient = Unrolled(model, T, B, drops=drops), model.weights.like()
    after = unrolled.forward(ids[:-1], state, Draws(1))
    assert (unrolled.ids < 0).any() == (drops.input_drop > 0.0)
    nats, dbefore = unrolled.loss_and_gradient(ids[1:], gradient, 1.0 / B, dstate)

    leaves = {n: torch.from_numpy(w.copy()).requires_grad_() for n, w in model.weights.items()}
    states = [torch.from_numpy(s.copy()).requires_grad_() for s in state]
    logits, their_after = of_torch(model, unrolled, leaves, states)
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, V), torch.from_numpy(ids[1:].reshape(-1)), reduction="none"
    )
    objective = losses.sum() / B
    for d, s in zip(dstate, their_after, strict=True):
        objective = objective + (torch.from_numpy(d) * s).sum()
    objective.backward()

    assert_close(unrolled.logits(), logits.detach().numpy(), tolerance)
    assert_close(nats, losses.detach().numpy().reshape(T, B), tolerance)
    for ours, theirs in zip(after, their_after, strict=True):
        assert_close(ours, theirs.detach().numpy(), tolerance)
    for name, leaf in leaves.items():
        assert np.abs(gradient[name]).max() > 1e-3
        assert_close(gradient[name], leaf.grad.numpy(), tolerance)
    for ours, leaf in zip(dbefore, states, strict=True):
        assert_close(ours, leaf.grad.numpy(), tolerance)
