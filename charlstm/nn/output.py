"""What the uppermost layer is read by: logits, softmax and cross-entropy.

N is the number of positions, T * B; V the size of the vocabulary; H the width of what is read.
"""

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, Weights, empty, items_per_block
from charlstm.nn.products import FEWEST_ROWS, Linear, Panels
from charlstm.nn.shape import Shape

FEWEST_POSITIONS = 160
"""A block of logits has at least so many positions: with fewer, products with a large vocabulary
would take longer to prepare than to make."""

MODERATE = 60.0
"""As long as all logits of a block are between minus and plus this, exp can neither overflow nor
vanish in float32, and the pass that takes their maxima off beforehand is saved."""


class Softmax:
    """Output projection, softmax and cross-entropy: y = h Wy^T + by, p = softmax(y).

    The loss of one position is -ln p[target] in nats, and d loss / d y = p - onehot(target).
    Positions are worked off in blocks, so that the logits of a block (n, V) stay in cache and
    no (N, V) array exists. The weights are by (V,) and Wy (V, H); of a tied output, the latter
    are the rows of the embedding, E.
    """

    def __init__(self, V: int, N: int, H: int, dtype: DTypeLike, Wy: str = "Wy") -> None:
        """For N positions, with the weights of the name `Wy`."""
        self.Wy = Wy
        fitting = items_per_block(V, dtype) // FEWEST_ROWS * FEWEST_ROWS
        self.block = min(N, max(FEWEST_POSITIONS, fitting))
        self.y = empty((self.block, V), dtype)
        self.wide = V > H
        self.rh = empty((self.block if self.wide else 0, H), dtype)
        self.by_WyT = Panels(self.block, 1, H, V, dtype)
        self.by_Wy = Panels(self.block, 1, V, H, dtype)
        self.dWy = empty((V, H), dtype)
        self.dby = empty((V,), dtype)
        self.rows = np.arange(self.block) * V  # where they begin in flat memory
        self.ones = np.ones(max(V, self.block), dtype)  # sums as products: quicker than add.reduce

    def loss(self, w: Weights, h: Array, targets: Array) -> Array:
        """Nats (N,) of the targets (N,) after h (N, H), what the uppermost layer shows."""
        nats = empty((len(h),), h.dtype)
        self.by_WyT.fill(w[self.Wy].T[None])
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            self._exponentials(h[part], w["by"], targets[part], nats[part])
        return nats

    def loss_and_gradient(
        self, w: Weights, d: Weights, h: Array, targets: Array, *, scale: float | Array, dh: Array
    ) -> Array:
        """As `loss`; write the gradients of the sum of scale * nats, with one scale or one for each
        position (N,): of the weights into `d`, of h into dh (N, H)."""
        nats = empty((len(h),), h.dtype)
        scales = np.full(len(h), scale, h.dtype)
        Wy, dWy, dby = w[self.Wy], d[self.Wy], d["by"]
        self.by_WyT.fill(Wy.T[None])
        self.by_Wy.fill(Wy[None])
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            y, sums = self._exponentials(h[part], w["by"], targets[part], nats[part])
            n = len(y)
            # dy = scale (p - onehot) = r (exp(y) - sum * onehot), where r = scale / sum
            y.reshape(-1)[self.rows[:n] + targets[part]] -= sums
            r, of_dWy, of_dby = (scales[part] / sums)[:, None], h[part], self.ones[:n]
            if not self.wide:
                np.multiply(y, r, out=y)
            else:  # the rows of h and dh are shorter: r is left to them
                of_dWy, of_dby = np.multiply(h[part], r, out=self.rh[:n]), r[:, 0]
            self.by_Wy.multiply(y, dh[None, part])
            if self.wide:
                np.multiply(dh[part], r, out=dh[part])
            np.matmul(y.T, of_dWy, out=self.dWy if at else dWy)
            np.matmul(of_dby, y, out=self.dby if at else dby)
            if at:
                np.add(dWy, self.dWy, out=dWy)
                np.add(dby, self.dby, out=dby)
        return nats

    def _exponentials(
        self, h: Array, by: Array, targets: Array, nats: Array
    ) -> tuple[Array, Array]:
        """Write the loss of the n positions into nats; return y (n, V) with exp(y) in it, up to
        a factor for each position, and the sums over the vocabulary."""
        n = len(h)
        y = self.y[:n]
        self.by_WyT.multiply(h, y[None])
        np.add(y, by, out=y)
        moderate = max(y.max(), -y.min()) <= MODERATE  # not if any is not a number
        if not moderate:
            np.subtract(y, y.max(axis=1, keepdims=True), out=y)
        np.negative(y.reshape(-1)[self.rows[:n] + targets], out=nats)
        np.exp(y, out=y)
        sums = np.matmul(y, self.ones[: y.shape[1]])
        np.add(nats, np.log(sums), out=nats)
        return y, sums


class Projected(Softmax):
    """`Softmax` with a projection Wp (H, D) of the hidden states to the width of a tied embedding
    E (V, D): s = h Wp, y = s E^T + by."""

    def __init__(self, shape: Shape, T: int, B: int, dtype: DTypeLike) -> None:
        D = shape.embedding
        super().__init__(shape.V, T * B, D, dtype, Wy="E")
        self.linear = Linear((1, shape.widths[-1], D), T, B, dtype)
        self.s, self.ds = empty((T * B, D), dtype), empty((T * B, D), dtype)

    def loss(self, w: Weights, h: Array, targets: Array) -> Array:
        return super().loss(w, self._project(w["Wp"], h), targets)

    def loss_and_gradient(
        self, w: Weights, d: Weights, h: Array, targets: Array, *, scale: float | Array, dh: Array
    ) -> Array:
        s, ds = self._project(w["Wp"], h), self.ds[: len(h)]
        nats = super().loss_and_gradient(w, d, s, targets, scale=scale, dh=ds)
        self.linear.backward(h, w["Wp"][None], ds[None], dW=d["Wp"][None], dx=dh)
        return nats

    def _project(self, Wp: Array, h: Array) -> Array:
        s = self.s[: len(h)]
        self.linear.fill(Wp[None])
        self.linear.multiply(h, s[None])
        return s


def output(shape: Shape, T: int, B: int, dtype: DTypeLike) -> Softmax:
    """The output of a network of this shape."""
    if "Wp" in shape.weights:
        return Projected(shape, T, B, dtype)
    return Softmax(shape.V, T * B, shape.widths[-1], dtype, Wy="E" if shape.tie else "Wy")
