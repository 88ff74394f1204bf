"""The weights of a language model: recurrent layers between characters and softmax."""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, Parameters, zeros
from charlstm.nn.cells import CELLS
from charlstm.nn.shape import Shape, State

CHRONO = 0.25
"""Share of the units that start slow. With all of them the next character is learnt much later: the
loss on the log of a web server was 0.462 nats after a minute, with a quarter 0.372 and 0.387 in two
runs, with none 0.385."""


class Model:
    """Weights of a recurrent language model over a vocabulary of V characters.

    Arrays: with an embedding of width D, its rows `E` (V, D); for each layer l = 0, 1, … of width
    H `layer{l}.Wx` (G, n, H), `layer{l}.Wh` (G, H, H), `layer{l}.b` (G, 1, H), where n is D, or V
    without an embedding, for the lowest layer and the width of the layer below for the others;
    then the output projection `Wy` (V, H) and `by` (V,). The gates stand in the order of
    `cell.gates`.

    With `tie`, the output weights are the embedding (O. Press, L. Wolf, 2017; H. Inan, K. Khosravi,
    R. Socher, 2017): there is no array `Wy`. Where D is not the width of the uppermost layer, a
    projection `Wp` (H, D) stands between: y = h Wp E^T + by. It has no bias: one would add the same
    to each logit whatever h is, which is what by does.
    """

    def __init__(
        self, shape: Shape, dtype: DTypeLike = np.float32, flat: Array | None = None
    ) -> None:
        """Over the flat vector of weights (P,), which is not copied; zeros where none is given."""
        self.shape, self.cell = shape, CELLS[shape.cell]
        self.V, self.H = shape.V, shape.widths[-1]  # H of the uppermost layer, which is shown
        self.dtype = np.dtype(dtype)
        self.weights = Parameters(shape.weights, self.dtype, flat)

    def initialise(
        self,
        rng: np.random.Generator,
        forget_bias: float = 1.0,
        start: str = "uniform",
        embedding_start: float | None = None,
        chrono: int | None = None,
    ) -> None:
        """Draw the weights.

        uniform   in ±1/sqrt(H), H being the width of their layer, of the uppermost for those of
                  the output (as PyTorch does)
        normal    with standard deviation 1/sqrt(n), n being the number of values that they read,
                  H for one-hot input (Y. LeCun and others, Efficient BackProp, 1998)

        `embedding_start` is the standard deviation of what a character is looked up as: of its row
        of the embedding or, where input is one-hot, of its rows of `layer0.Wx`; None draws these
        like other weights. Biases are zero. The forget gate's bias starts at `forget_bias`, so that
        a new LSTM keeps its cell state until it has learnt to forget (R. Jozefowicz et al., 2015).

        With `chrono` a share `CHRONO` of an LSTM's units start as ones that remember for up to so
        many steps T: of the forget gate b ~ log U(1, T - 1), of the input gate -b, so that as much
        comes in as is forgotten (C. Tallec and Y. Ollivier, Can recurrent neural networks warp
        time?, 2018).
        """
        widths = {f"layer{k}": H for k, H in enumerate(self.shape.widths)}
        looked_up = "E" if self.shape.embedding else "layer0.Wx"
        for name, w in self.weights.items():
            width = widths.get(name.partition(".")[0], self.H)
            given = embedding_start if name == looked_up else None
            if name.endswith(("b", "by")):
                w[...] = 0.0
            elif start == "normal":
                n = width if name in (looked_up, "Wy") else w.shape[-2]
                w[...] = rng.normal(0.0, given or 1.0 / np.sqrt(n), w.shape)
            else:
                bound = np.sqrt(3.0) * given if given else 1.0 / np.sqrt(width)
                w[...] = rng.uniform(-bound, bound, w.shape)
        if "f" in self.cell.gates:
            i, f = self.cell.gates.index("i"), self.cell.gates.index("f")
            for k, H in enumerate(self.shape.widths):
                b = self.weights[f"layer{k}.b"]
                b[f] = forget_bias
                if chrono:
                    slow = slice(int(CHRONO * H))
                    b[f, ..., slow] = np.log(rng.uniform(1.0, chrono - 1.0, slow.stop))
                    b[i, ..., slow] = -b[f, ..., slow]

    @property
    def Wy(self) -> Array:
        """Weights (V, H) by which the logits are h Wy^T + by, whether there is an array of that
        name or they are tied: then E, or what E and the projection make together."""
        w = self.weights
        if not self.shape.tie:
            return w["Wy"]
        return w["E"] @ w["Wp"].T if "Wp" in w else w["E"]

    def zero_state(self, B: int) -> State:
        """The state before the first character of B streams."""
        return [zeros((B, H), self.dtype) for H in self.shape.states.values()]

    def with_weights(self, flat: Array) -> Self:
        """The same model over another flat vector of weights, which is not copied, and whose
        precision is the model's."""
        return type(self)(self.shape, flat.dtype, flat)

    def reordered(self, order: Sequence[int]) -> Self:
        """The same model over the units in another order: unit k is unit order[k] of this one."""
        other = type(self)(self.shape, self.dtype)
        by_unit = {"E": 0, "Wy": 0, "by": 0}  # the axis of the units
        if not self.shape.embedding:
            by_unit["layer0.Wx"] = 1
        for name, w in self.weights.items():
            if name in by_unit:
                np.take(w, order, by_unit[name], out=other.weights[name], mode="clip")
            else:
                other.weights[name][...] = w
        return other

    def without(self, unit: int) -> Self:
        """The model with a probability of zero for a unit, those of the others in proportion."""
        without = self.with_weights(self.weights.flat.copy())
        without.weights["by"][unit] = -np.inf
        return without

    @property
    def rows_shape(self) -> tuple[int, int, int]:
        """(G, V, H) of the first weights, Wx or E, of which a unit is read by its rows alone."""
        *gates, V, H = next(iter(self.weights.values())).shape
        return math.prod(gates), V, H

    @property
    def highest_logit(self) -> float:
        """A bound of all logits: hidden states lie between -1 and 1."""
        Wy, by = self.Wy, self.weights["by"]
        sums = np.abs(Wy).sum(axis=1) + np.abs(by)
        return float(np.max(sums, where=np.isfinite(by), initial=0.0))

    def input_table(self, out: Array) -> None:
        """Write u = (x Wx + b) * scale of the lowest layer for every character into `out`
        (G, V + 1, H), and last, where id -1 finds it, that of an unknown one."""
        w = self.weights
        scale = np.array(self.cell.scale, self.dtype).reshape(-1, 1, 1)
        if self.shape.embedding:
            np.matmul(w["E"], w["layer0.Wx"] * scale, out=out[:, : self.V])
        else:
            np.multiply(w["layer0.Wx"], scale, out=out[:, : self.V])
        out[:, self.V :] = 0.0
        np.add(out, w["layer0.b"] * scale, out=out)
