"""A character-level LSTM in NumPy alone. It reads a text, learns from it, and writes.

    python minimal.py TEXT [STEPS]

The letters are those of charlstm/nn/cells.py: x is a character, h the hidden state, c the cell
state; i, f, o and g are the gates, z what stands inside sigma or tanh. dh is d loss / d h. Vectors
are rows. V is the size of the vocabulary, H the hidden size, T the steps of a segment.
"""

import sys
from pathlib import Path

import numpy as np

H, T, LR, CLIP = 100, 25, 0.1, 5.0  # sizes, learning rate, limit of a gradient's elements


def sigma(z):
    return 1.0 / (1.0 + np.exp(-z))


def softmax(y):
    e = np.exp(y - y.max())
    return e / e.sum()


def start(V, rng):
    """The first weights, drawn in this order. Gates stand in the order i, f, o, g."""
    bound = 1.0 / np.sqrt(H)
    w = {
        "Wx": rng.uniform(-bound, bound, (4, V, H)),
        "Wh": rng.uniform(-bound, bound, (4, H, H)),
        "b": np.zeros((4, H)),
        "Wy": rng.uniform(-bound, bound, (V, H)),
        "by": np.zeros(V),
    }
    w["b"][1] = 1.0  # the forget gate begins open
    return w


def forward(w, x, h, c):
    """One character: the gates, the state after it, and the probabilities of the next one."""
    z = w["Wx"][:, x] + h @ w["Wh"] + w["b"]  # (4, H); one-hot x times Wx is a row of Wx
    i, f, o = sigma(z[:3])
    g = np.tanh(z[3])
    c_next = f * c + i * g
    h_next = o * np.tanh(c_next)
    p = softmax(h_next @ w["Wy"].T + w["by"])
    return (i, f, o, g), h_next, c_next, p


def loss_and_gradient(w, ids, h, c):
    """From ids (T + 1,) and the state before: the nats of the T predictions, the gradient of their
    sum, and the state after."""
    nats, kept, steps = 0.0, [], range(len(ids) - 1)
    for t in steps:
        gates, h_next, c_next, p = forward(w, ids[t], h, c)
        nats -= np.log(p[ids[t + 1]])
        kept.append((h, c, gates, h_next, c_next, p))
        h, c = h_next, c_next
    after = h, c

    d = {name: np.zeros_like(array) for name, array in w.items()}
    dh = dc = np.zeros(H)  # nothing comes from beyond the segment: truncated backpropagation
    for t in reversed(steps):
        h, c, (i, f, o, g), h_next, c_next, dy = kept[t]
        dy[ids[t + 1]] -= 1.0  # dy = p - one_hot(target)
        d["Wy"] += np.outer(dy, h_next)
        d["by"] += dy
        dh = dh + dy @ w["Wy"]  # from the step after, and from the output
        tanh_c = np.tanh(c_next)
        dc = dc + dh * o * (1.0 - tanh_c**2)
        dz_i = dc * g * i * (1.0 - i)
        dz_f = dc * c * f * (1.0 - f)
        dz_o = dh * tanh_c * o * (1.0 - o)
        dz_g = dc * i * (1.0 - g**2)  # g is tanh(z) already: no second tanh
        dz = np.array([dz_i, dz_f, dz_o, dz_g])
        d["Wx"][:, ids[t]] += dz
        d["Wh"] += h[:, None] * dz[:, None]
        d["b"] += dz
        dh = sum(dz[k] @ w["Wh"][k].T for k in range(4))
        dc = dc * f
    return nats, d, *after


def train(w, ids, steps):
    """Read the text as a ring, T characters a step, and change the weights w by each. Yields the
    loss before the change, in nats per character, and the state after."""
    h, c = np.zeros(H), np.zeros(H)
    squares = {name: np.zeros_like(array) for name, array in w.items()}
    for step in range(steps):
        segment = ids[(step * T + np.arange(T + 1)) % len(ids)]
        nats, d, h, c = loss_and_gradient(w, segment, h, c)
        for name, gradient in d.items():  # Adagrad
            gradient = np.clip(gradient, -CLIP, CLIP)
            squares[name] += gradient**2
            w[name] -= LR * gradient / (np.sqrt(squares[name]) + 1e-8)
        yield nats / T, h, c


def sample(w, x, h, c, length, rng):
    """The ids of a text that continues character x."""
    for _ in range(length):
        _, h, c, p = forward(w, x, h, c)
        x = rng.choice(len(p), p=p)
        yield x


if __name__ == "__main__":
    text, steps = Path(sys.argv[1]).read_text("utf-8"), int([*sys.argv, 2000][2])
    characters, rng, losses = sorted(set(text)), np.random.default_rng(0), []
    ids = np.array([characters.index(character) for character in text])
    w = start(len(characters), rng)
    for step, (loss, h, c) in enumerate(train(w, ids, steps), start=1):
        losses.append(loss)
        if step % 100 == 0:
            print(f"step {step}, loss {np.mean(losses[-100:]):.4f}")
        if step % 1000 == 0 or step == steps:
            x = ids[step * T % len(ids)]  # where the text goes on
            print("".join(characters[k] for k in sample(w, x, h, c, 200, rng)))
