"""Those whom the benchmarks race against: training steps of PyTorch, JAX and plain NumPy.

Each does complete steps: forward over T characters of B streams with the state carried, softmax
cross-entropy, backward, clipping, Adagrad; in float32, on fresh ids in every step. All begin with
the same weights (`initial`) and read the same ids (`texts`), so the losses of their steps must be
those of this package; `tests/test_benchmarks.py` holds them to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from charlstm.nn.model import Model
from charlstm.nn.optimizers import Adagrad
from charlstm.nn.shape import Shape

Array = NDArray[Any]
Step = Callable[[], float]
"""One training step; its loss in nats per character."""

CLIP, RATE, EPSILON = 5.0, 1e-3, Adagrad.epsilon
"""Of Adagrad. The rate is small, since there is nothing to learn in random text: at 0.1 a large
network is soon saturated and its gradients denormal numbers, with which processors are slow; at
H = 512 PyTorch was seen to do a tenth of the steps, this package a third."""
CLASSIC_RATE = 0.1
EMBEDDING = 100
"""Numbers that stand for a character where PyTorch has no one-hot input."""

TORCH_GATES = {"rnn": ("h",), "gru": ("r", "q", "n"), "lstm": ("i", "f", "g", "o")}
"""The gates in PyTorch's order; what it calls z is q here."""


class Task(NamedTuple):
    """What is trained: the arguments of the functions that make a contestant."""

    cell: str
    V: int
    H: int
    layers: int
    T: int
    B: int


def texts(V: int, T: int, B: int) -> list[Array]:
    """Thirty segments (T + 1, B) of random ids."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, V, (T + 1, B)) for _ in range(30)]


def initial(cell: str, V: int, H: int, layers: int) -> Model:
    """The weights with which everybody begins."""
    model = Model(Shape(cell, V, H, layers))
    model.initialise(np.random.default_rng(0))
    return model


# --- PyTorch -------------------------------------------------------------------------------------


class TorchNetwork(NamedTuple):
    """PyTorch's own layers."""

    shown: Any
    """From ids to what the recurrent layers see."""
    recurrent: Any
    linear: Any
    weights: list[Any]
    """What is trained."""


def torch_network(torch: Any, model: Model, embedding: bool = False) -> TorchNetwork:
    """PyTorch's own layers with the weights of `model`. Its second bias, on the recurrent side,
    is zero and stays so.

    With `embedding`, the input is an embedding instead of one-hot vectors; it and the lowest
    layer's input weights are then PyTorch's random ones.
    """
    torch.manual_seed(0)
    cell, V, H = model.cell.name, model.V, model.H
    kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    recurrent = kind(EMBEDDING if embedding else V, H, model.shape.layers)
    linear = torch.nn.Linear(H, V)
    order = [model.cell.gates.index(gate) for gate in TORCH_GATES[cell]]
    with torch.no_grad():
        for k in range(model.shape.layers):
            for name, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh")):
                rows = np.concatenate(model.weights[f"layer{k}.{name}"][order].transpose(0, 2, 1))
                if k or name == "Wh" or not embedding:
                    getattr(recurrent, f"{theirs}_l{k}").copy_(torch.from_numpy(rows))
            b = model.weights[f"layer{k}.b"][order].reshape(-1)
            getattr(recurrent, f"bias_ih_l{k}").copy_(torch.from_numpy(b))
            getattr(recurrent, f"bias_hh_l{k}").zero_().requires_grad_(False)
        linear.weight.copy_(torch.from_numpy(model.weights["Wy"]))
        linear.bias.copy_(torch.from_numpy(model.weights["by"]))
    weights = [w for w in (*recurrent.parameters(), *linear.parameters()) if w.requires_grad]
    if not embedding:
        return TorchNetwork(torch.eye(V).__getitem__, recurrent, linear, weights)
    embed = torch.nn.Embedding(V, EMBEDDING)
    return TorchNetwork(embed, recurrent, linear, [*embed.parameters(), *weights])


FUSED = True
"""Whether PyTorch takes its fused Adagrad, which must be asked for, instead of the one it takes by
itself."""


def torch_step(
    torch: Any,
    cell: str,
    V: int,
    H: int,
    layers: int,
    T: int,
    B: int,
    embedding: bool = False,
    clip: float = CLIP,
    rate: float = RATE,
) -> Step:
    """Steps of PyTorch, as fast as it was seen to do them: with its fused layers and Adagrad."""
    network = torch_network(torch, initial(cell, V, H, layers), embedding)
    optimizer = torch.optim.Adagrad(network.weights, lr=rate, eps=EPSILON, fused=FUSED)
    segments = itertools.cycle([torch.from_numpy(ids) for ids in texts(V, T, B)])
    zero = torch.zeros(layers, B, H)
    state: Any = (zero, zero) if cell == "lstm" else zero

    def step() -> float:
        nonlocal state
        ids = next(segments)
        h, state = network.recurrent(network.shown(ids[:-1]), state)
        state = tuple(s.detach() for s in state) if cell == "lstm" else state.detach()
        logits = network.linear(h).reshape(-1, V)
        loss = torch.nn.functional.cross_entropy(logits, ids[1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.weights, clip)
        optimizer.step()
        return float(loss.detach())

    return step


# --- JAX -----------------------------------------------------------------------------------------


def jax_step(
    cell: str,
    V: int,
    H: int,
    layers: int,
    T: int,
    B: int,
    clip: float = CLIP,
    rate: float = RATE,
) -> Step:
    """Steps of JAX: everything in one compiled function whose buffers are handed from step to
    step, a scan over time with one product a step, one-hot input as a look-up."""
    import jax
    import jax.numpy as jnp

    def lstm(Wh: Any, state: Any, u: Any) -> Any:
        h, c = state
        i, f, o, g = jnp.split(u + h @ Wh, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(Wh: Any, state: Any, u: Any) -> Any:
        (h,) = state
        v = h @ Wh
        r, q = jnp.split(jax.nn.sigmoid(u[:, : 2 * H] + v[:, : 2 * H]), 2, axis=1)
        n = jnp.tanh(u[:, 2 * H :] + r * v[:, 2 * H :])
        h = n + q * (h - n)
        return (h,), h

    def rnn(Wh: Any, state: Any, u: Any) -> Any:
        (h,) = state
        h = jnp.tanh(u + h @ Wh)
        return (h,), h

    one_step = {"lstm": lstm, "gru": gru, "rnn": rnn}[cell]

    def loss(w: Any, states: Any, ids: Any) -> Any:
        after = []
        x = ids[:-1]
        for k in range(layers):
            Wx, Wh, b = (w[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b"))
            u = (x @ Wx if k else Wx[x]) + b  # (T, B, G H)
            state, x = jax.lax.scan(lambda s, u, Wh=Wh: one_step(Wh, s, u), states[k], u)
            after.append(state)
        logp = jax.nn.log_softmax(x @ w["Wy"].T + w["by"])
        return -jnp.take_along_axis(logp, ids[1:, :, None], axis=2).mean(), after

    def whole(w: Any, squares: Any, states: Any, ids: Any) -> Any:
        (nats, after), g = jax.value_and_grad(loss, has_aux=True)(w, states, ids)
        length = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(g)))
        shorter = jnp.minimum(1.0, clip / length)
        g = jax.tree.map(lambda x: x * shorter, g)
        squares = jax.tree.map(lambda s, x: s + x * x, squares, g)
        w = jax.tree.map(lambda w, x, s: w - rate * x / (jnp.sqrt(s) + EPSILON), w, g, squares)
        return w, squares, after, nats

    compiled = jax.jit(whole, donate_argnums=(0, 1, 2))
    model = initial(cell, V, H, layers)
    w = {
        name: jnp.asarray(np.hstack(list(a)) if a.ndim == 3 else a)  # gates side by side
        for name, a in model.weights.items()
    }
    squares = jax.tree.map(jnp.zeros_like, w)
    state = [tuple(jnp.zeros((B, H)) for _ in model.cell.states) for _ in range(layers)]
    segments = itertools.cycle([jnp.asarray(ids, jnp.int32) for ids in texts(V, T, B)])

    def step() -> float:
        nonlocal w, squares, state
        w, squares, state, nats = compiled(w, squares, state, next(segments))
        return float(nats)

    return step


# --- NumPy, as a textbook writes it --------------------------------------------------------------


class NaiveRNN:
    """A plain RNN in plain NumPy, as the classic teaching script has it: one stream, a Python loop
    over time, one-hot columns, a product per matrix and step, gradients summed as outer products.

    Column vectors; weights Wxh (H, V), Whh (H, H), bh (H, 1), Why (V, H), by (V, 1).
    """

    states = 1

    def __init__(self, V: int, H: int, dtype: DTypeLike = np.float32) -> None:
        self.V, self.H, self.dtype = V, H, np.dtype(dtype)
        rng = np.random.default_rng(0)
        shapes = {"Wxh": (H, V), "Whh": (H, H), "bh": (H, 1), "Why": (V, H), "by": (V, 1)}
        self.weights = {
            name: (rng.standard_normal(shape) * 0.01).astype(dtype)
            for name, shape in shapes.items()
        }

    def zero_state(self) -> tuple[Array, ...]:
        return (np.zeros((self.H, 1), self.dtype),)

    def loss(
        self, inputs: list[int], targets: list[int], state: tuple[Array, ...]
    ) -> tuple[float, dict[str, Array], tuple[Array, ...]]:
        """Sum of the nats, its gradients, and the state after."""
        Wxh, Whh, bh, Why, by = self.weights.values()
        xs, hs, ps = {}, {-1: state[0]}, {}
        loss = 0.0
        for t in range(len(inputs)):
            xs[t] = np.zeros((self.V, 1), self.dtype)
            xs[t][inputs[t]] = 1
            hs[t] = np.tanh(np.dot(Wxh, xs[t]) + np.dot(Whh, hs[t - 1]) + bh)
            y = np.dot(Why, hs[t]) + by
            e = np.exp(y - np.max(y))
            ps[t] = e / np.sum(e)
            loss += -np.log(ps[t][targets[t], 0])
        d = {name: np.zeros_like(w) for name, w in self.weights.items()}
        dh_next = np.zeros_like(hs[0])
        for t in reversed(range(len(inputs))):
            dy = np.copy(ps[t])
            dy[targets[t]] -= 1
            d["Why"] += np.dot(dy, hs[t].T)
            d["by"] += dy
            dh = np.dot(Why.T, dy) + dh_next
            dz = (1 - hs[t] * hs[t]) * dh
            d["bh"] += dz
            d["Wxh"] += np.dot(dz, xs[t].T)
            d["Whh"] += np.dot(dz, hs[t - 1].T)
            dh_next = np.dot(Whh.T, dz)
        return float(loss), d, (hs[len(inputs) - 1],)


class NaiveLSTM:
    """An LSTM in plain NumPy, in the style of `NaiveRNN`; input and hidden state are one
    concatenated column, the gates i, f, o, g one matrix.

    Weights W (4 H, H + V), b (4 H, 1), Why (V, H), by (V, 1).
    """

    states = 2

    def __init__(self, V: int, H: int, dtype: DTypeLike = np.float32) -> None:
        self.V, self.H, self.dtype = V, H, np.dtype(dtype)
        rng = np.random.default_rng(0)
        shapes = {"W": (4 * H, H + V), "b": (4 * H, 1), "Why": (V, H), "by": (V, 1)}
        self.weights = {
            name: (rng.standard_normal(shape) * 0.01).astype(dtype)
            for name, shape in shapes.items()
        }

    def zero_state(self) -> tuple[Array, ...]:
        return np.zeros((self.H, 1), self.dtype), np.zeros((self.H, 1), self.dtype)

    def loss(
        self, inputs: list[int], targets: list[int], state: tuple[Array, ...]
    ) -> tuple[float, dict[str, Array], tuple[Array, ...]]:
        """Sum of the nats, its gradients, and the state after."""
        W, b, Why, by = self.weights.values()
        H = self.H
        xs, gates, tanh_cs, ps = {}, {}, {}, {}
        hs, cs = {-1: state[0]}, {-1: state[1]}
        loss = 0.0
        for t in range(len(inputs)):
            x = np.zeros((self.V, 1), self.dtype)
            x[inputs[t]] = 1
            xs[t] = np.concatenate((hs[t - 1], x))
            z = np.dot(W, xs[t]) + b
            ifo = 1 / (1 + np.exp(-z[: 3 * H]))
            i, f, o, g = ifo[:H], ifo[H : 2 * H], ifo[2 * H :], np.tanh(z[3 * H :])
            gates[t] = i, f, o, g
            cs[t] = f * cs[t - 1] + i * g
            tanh_cs[t] = np.tanh(cs[t])
            hs[t] = o * tanh_cs[t]
            y = np.dot(Why, hs[t]) + by
            e = np.exp(y - np.max(y))
            ps[t] = e / np.sum(e)
            loss += -np.log(ps[t][targets[t], 0])
        d = {name: np.zeros_like(w) for name, w in self.weights.items()}
        dh_next, dc_next = np.zeros_like(hs[0]), np.zeros_like(cs[0])
        for t in reversed(range(len(inputs))):
            i, f, o, g = gates[t]
            dy = np.copy(ps[t])
            dy[targets[t]] -= 1
            d["Why"] += np.dot(dy, hs[t].T)
            d["by"] += dy
            dh = np.dot(Why.T, dy) + dh_next
            dc = dh * o * (1 - tanh_cs[t] ** 2) + dc_next
            dz = np.concatenate(
                (
                    dc * g * i * (1 - i),
                    dc * cs[t - 1] * f * (1 - f),
                    dh * tanh_cs[t] * o * (1 - o),
                    dc * i * (1 - g**2),
                )
            )
            d["W"] += np.dot(dz, xs[t].T)
            d["b"] += dz
            dh_next = np.dot(W[:, :H].T, dz)
            dc_next = dc * f
        return float(loss), d, (hs[len(inputs) - 1], cs[len(inputs) - 1])


NAIVE: Mapping[str, type[NaiveRNN] | type[NaiveLSTM]] = {"rnn": NaiveRNN, "lstm": NaiveLSTM}


def naive_step(cell: str, text: str, H: int, T: int, dtype: DTypeLike = np.float32) -> Step:
    """Steps of the classic script: segment after segment of a text, from a zero state when it
    begins anew; gradients cut at ±5, Adagrad. The loss is the mean over the segment."""
    characters = sorted(set(text))
    ids = {character: k for k, character in enumerate(characters)}
    network = NAIVE[cell](len(characters), H, dtype)
    squares = {name: np.zeros_like(w) for name, w in network.weights.items()}
    state, place = network.zero_state(), 0

    def step() -> float:
        nonlocal state, place
        if place + T + 1 > len(text):
            state, place = network.zero_state(), 0
        inputs = [ids[character] for character in text[place : place + T]]
        targets = [ids[character] for character in text[place + 1 : place + T + 1]]
        loss, d, state = network.loss(inputs, targets, state)
        for name, w in network.weights.items():
            g = d[name]
            np.clip(g, -CLIP, CLIP, out=g)
            squares[name] += g * g
            w -= CLASSIC_RATE * g / np.sqrt(squares[name] + EPSILON)
        place += T
        return loss / T

    return step
