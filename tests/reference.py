"""The model once more, as a textbook would write it: what the fast one must equal.

One step of one cell at a time, one matrix product per gate and side, one-hot vectors as dense
matrices, the logistic function by its definition, gradients by nothing but the definition of a
derivative (in `test_gradients`). Nothing is shared with the package: weights come as a mapping
from names to arrays.

B is the number of streams, V the size of the vocabulary, H the hidden size, T the steps. A
product such as `x @ Wx[0]` is that of the first gate; the gates stand in the order in which the
cell unpacks its pre-activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
States = tuple[Array, ...]
Weights = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    """sigma(x) = 1 / (1 + exp(-x))."""
    y: Array = 1.0 / (1.0 + np.exp(-x))
    return y


def one_hot(ids: Array, V: int) -> Array:
    """Vectors (..., V) with a one where the id is; an id outside 0 … V - 1 gives zeros."""
    x: Array = (ids[..., None] == np.arange(V)).astype(np.float64)
    return x


# --- one step of one cell ------------------------------------------------------------------------


def rnn(x: Array, state: States, Wx: Array, Wh: Array, b: Array) -> States:
    """h' = tanh(x Wx + h Wh + b)."""
    (h,) = state
    return (np.tanh(x @ Wx[0] + h @ Wh[0] + b[0]),)


def gru(x: Array, state: States, Wx: Array, Wh: Array, b: Array) -> States:
    """Gated recurrent unit whose reset gate acts on the product h Wh of the candidate."""
    (h,) = state
    r = sigmoid(x @ Wx[0] + h @ Wh[0] + b[0])
    q = sigmoid(x @ Wx[1] + h @ Wh[1] + b[1])
    n = np.tanh(x @ Wx[2] + b[2] + r * (h @ Wh[2]))
    return ((1.0 - q) * n + q * h,)


def lstm(x: Array, state: States, Wx: Array, Wh: Array, b: Array) -> States:
    """Long short-term memory with a forget gate, without peepholes."""
    h, c = state
    i = sigmoid(x @ Wx[0] + h @ Wh[0] + b[0])
    f = sigmoid(x @ Wx[1] + h @ Wh[1] + b[1])
    o = sigmoid(x @ Wx[2] + h @ Wh[2] + b[2])
    g = np.tanh(x @ Wx[3] + h @ Wh[3] + b[3])
    c_ = f * c + i * g
    h_ = o * np.tanh(c_)
    return h_, c_


Step = Callable[[Array, States, Array, Array, Array], States]
CELLS: dict[str, Step] = {"rnn": rnn, "gru": gru, "lstm": lstm}
STATES = {"rnn": 1, "gru": 1, "lstm": 2}
"""How many arrays a cell's state is made of."""


# --- the whole model -----------------------------------------------------------------------------


def forward(
    cell: str,
    layers: int,
    weights: Weights,
    ids: Array,
    state: Sequence[Array],
    masks: Mapping[str, Array] | None = None,
) -> tuple[Array, list[Array]]:
    """Logits (T, B, V) after each of the ids (T, B), and the state after the last.

    `state` has the arrays of the lowest layer first, each (B, H). With weights E the input is
    E[id], and without weights Wy so is the output's; Wp stands before that. Masks are factors: x0,
    x1, … (T, B, n) of what enters each layer and of what the output reads, Wh0, … of Wh.
    """
    n, masks = STATES[cell], masks or {}
    states = [tuple(state[k * n : (k + 1) * n]) for k in range(layers)]
    logits = []
    for t, x in enumerate(one_hot(ids, len(weights["by"]))):
        if "E" in weights:
            x = x @ weights["E"]
        for k in range(layers):
            x = x * masks[f"x{k}"][t] if f"x{k}" in masks else x
            Wx, Wh, b = (weights[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b"))
            states[k] = CELLS[cell](x, states[k], Wx, Wh * masks.get(f"Wh{k}", 1.0), b)
            x = states[k][0]
        x = x * masks[f"x{layers}"][t] if f"x{layers}" in masks else x
        x = x @ weights["Wp"] if "Wp" in weights else x
        logits.append(x @ weights["Wy" if "Wy" in weights else "E"].T + weights["by"])
    return np.array(logits), [array for layer in states for array in layer]


def cross_entropy(logits: Array, targets: Array) -> Array:
    """-ln p[target] with p = softmax(logits): nats (T, B) of logits (T, B, V)."""
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    nats: Array = -np.log(np.take_along_axis(p, targets[..., None], axis=-1))[..., 0]
    return nats


# --- descent -------------------------------------------------------------------------------------


def clip_norm(g: Array, limit: float) -> Array:
    """g, shortened to the length `limit` where it is longer."""
    length = np.sqrt(np.sum(g**2))
    return g * (limit / length) if length > limit else g


def clip_value(g: Array, limit: float) -> Array:
    """g with every element cut to -limit … limit."""
    return np.array([min(max(x, -limit), limit) for x in g.tolist()])


def sgd(w: Array, g: Array, learning_rate: float) -> Array:
    """The weights after one step of gradient descent."""
    return w - learning_rate * g


def adagrad(
    w: Array, g: Array, squares: Array, learning_rate: float, epsilon: float = 1e-8
) -> tuple[Array, Array]:
    """The weights and the sums of squared gradients after one step."""
    squares = squares + g**2
    return w - learning_rate * g / (np.sqrt(squares) + epsilon), squares


# --- dynamic evaluation --------------------------------------------------------------------------


def dynamic_steps(
    w: Array, gradients: Sequence[Array], rate: float, pull: float
) -> list[tuple[Array, Array]]:
    """The weights and the squares after each of some gradients, the first 32 of which, and every
    eighth of the others, count for the squares; then the weights are drawn back, too."""
    trained, squares, n, after = w, np.full(len(w), np.mean(gradients[0] ** 2)), 0, []
    last = -1
    for step, g in enumerate(gradients):
        usual = np.sqrt(np.mean(squares))
        size = np.sqrt(np.mean(g**2))
        g = g * (4.0 * usual / size) if size > 4.0 * usual else g
        if step < 32 or step % 8 == 0:
            n += 1
            squares = squares + max(1.0 / (n + 1), 0.01) * (g**2 - squares)
            deviations = np.sqrt(squares) + 0.1 * np.sqrt(np.mean(squares))
        w = w - rate * g / deviations
        if step < 32 or step % 8 == 0:
            kept, last = (1.0 - pull) ** (step - last), step
            w = kept * w + (1.0 - kept) * trained
        after.append((w, squares))
    return after
