"""The language model: recurrent layers one on the other, between characters and softmax.

`Model` is the weights and their names. `Unrolled` is the model over T steps of B streams, with
every buffer that a pass forward and back needs. `Stepper` advances it by one character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from charlstm.nn.arrays import Array, Panels, empty, zeros
from charlstm.nn.cells import CELLS, Cell
from charlstm.nn.layers import Dense, Draws, Dropout, Drops, Embedding, Mask, OneHot, SoftmaxOutput
from charlstm.nn.parameters import Parameters
from charlstm.nn.recurrent import Recurrent

State = list[Array]
"""The recurrent state of all layers, from the lowest up, each array (B, H) with H the width of its
layer: for an LSTM of two layers h, c, h, c."""

KEEP_ALL = Drops()
"""Nothing is left out."""

Hidden = int | Sequence[int]
"""The width H of all layers, or of each, the lowest first."""


def widths_of(hidden: Hidden, layers: int) -> tuple[int, ...]:
    """The width H of each layer, the lowest first."""
    widths = (hidden,) * layers if isinstance(hidden, int) else tuple(hidden)
    if len(widths) != layers:
        raise ValueError(f"{len(widths)} widths for {layers} layers")
    return widths


def weight_shapes(
    cell: Cell, V: int, hidden: Hidden, layers: int, embedding: int = 0, tie: bool = False
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's weights, in the order of the flat vector (see `Model`)."""
    G = len(cell.gates)
    shapes: dict[str, tuple[int, ...]] = {"E": (V, embedding)} if embedding else {}
    below = embedding or V
    for layer, H in enumerate(widths_of(hidden, layers)):
        shapes[f"layer{layer}.Wx"] = (G, below, H)
        shapes[f"layer{layer}.Wh"] = (G, H, H)
        shapes[f"layer{layer}.b"] = (G, 1, H)
        below = H
    if not tie:
        shapes["Wy"] = (V, below)
    elif below != embedding:
        shapes["Wp"] = (below, embedding)
    return {**shapes, "by": (V,)}


def state_widths(cell: Cell, hidden: Hidden, layers: int) -> dict[str, int]:
    """Names and widths of the arrays of a `State`, in its order: layer0.h, layer0.c, …"""
    widths = enumerate(widths_of(hidden, layers))
    return {f"layer{layer}.{s}": H for layer, H in widths for s in cell.states}


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
        self,
        cell: str,
        vocabulary: int,
        hidden: Hidden,
        layers: int = 1,
        dtype: DTypeLike = np.float32,
        flat: Array | None = None,
        *,
        embedding: int = 0,
        tie: bool = False,
    ) -> None:
        if tie and not embedding:
            raise ValueError("only an embedding can be tied to the output")
        self.cell = CELLS[cell]
        self.V, self.D, self.layers, self.tie = vocabulary, embedding, layers, tie
        self.widths = widths_of(hidden, layers)
        self.H = self.widths[-1]
        """The width of the uppermost layer, whose hidden state is what the model shows."""
        self.dtype = np.dtype(dtype)
        shapes = weight_shapes(self.cell, vocabulary, hidden, layers, embedding, tie)
        self.weights = Parameters(shapes, self.dtype, flat)

    def initialise(
        self,
        rng: np.random.Generator,
        forget_bias: float = 1.0,
        start: str = "uniform",
        embedding_start: float = 1.0,
    ) -> None:
        """Draw the weights.

        uniform   in ±1/sqrt(H), H being the width of their layer, of the uppermost for those of
                  the output (as PyTorch does)
        normal    with standard deviation 1/sqrt(n), n being the number of values that they read,
                  H for one-hot input (Y. LeCun and others, Efficient BackProp, 1998)

        The embedding is drawn in the same way, with the standard deviation `embedding_start`.
        Biases are zero. The forget gate's bias starts at `forget_bias`, so that a new LSTM
        keeps its cell state until it has learnt to forget (R. Jozefowicz et al., 2015).
        """
        widths = {f"layer{k}": H for k, H in enumerate(self.widths)}
        for name, w in self.weights.items():
            width = widths.get(name.partition(".")[0], self.H)
            if name.endswith(("b", "by")):
                w[...] = 0.0
            elif start == "normal":
                one_hot = name == "layer0.Wx" and not self.D
                n = width if one_hot or name == "Wy" else w.shape[-2]
                deviation = embedding_start if name == "E" else 1.0 / np.sqrt(n)
                w[...] = rng.normal(0.0, deviation, w.shape)
            else:
                bound = np.sqrt(3.0) * embedding_start if name == "E" else 1.0 / np.sqrt(width)
                w[...] = rng.uniform(-bound, bound, w.shape)
        if "f" in self.cell.gates:
            for layer in range(self.layers):
                self.weights[f"layer{layer}.b"][self.cell.gates.index("f")] = forget_bias

    @property
    def Wy(self) -> Array:
        """Weights (V, H) by which the logits are h Wy^T + by, whether there is an array of that
        name or they are tied: then E, or what E and the projection make together."""
        w = self.weights
        if not self.tie:
            return w["Wy"]
        return w["E"] @ w["Wp"].T if "Wp" in w else w["E"]

    @property
    def state_widths(self) -> dict[str, int]:
        """Names and widths of the arrays of a `State`, in its order."""
        return state_widths(self.cell, self.widths, self.layers)

    @property
    def state_names(self) -> list[str]:
        """Names of the arrays of a `State`, in its order: layer0.h, layer0.c, …"""
        return list(self.state_widths)

    def zero_state(self, B: int) -> State:
        """The state before the first character of B streams."""
        return [zeros((B, H), self.dtype) for H in self.state_widths.values()]

    def with_weights(self, flat: Array) -> Model:
        """The same model over another flat vector of weights, which is not copied, and whose
        precision is the model's."""
        return Model(
            *(self.cell.name, self.V, self.widths, self.layers, flat.dtype, flat),
            embedding=self.D,
            tie=self.tie,
        )

    def input_table(self, out: Array) -> None:
        """Write u = (x Wx + b) * scale of the lowest layer for every character into `out`
        (G, V + 1, H), and last, where id -1 finds it, that of an unknown one."""
        w, cell = self.weights, self.cell
        scale = np.array(cell.scale, self.dtype).reshape(-1, 1, 1)
        if self.D:
            np.matmul(w["E"], w["layer0.Wx"] * scale, out=out[:, : self.V])
        else:
            np.multiply(w["layer0.Wx"], scale, out=out[:, : self.V])
        out[:, self.V :] = 0.0
        np.add(out, w["layer0.b"] * scale, out=out)


class Unrolled:
    """A model unrolled over at most T steps of B streams, with its own buffers.

    Two of them over the same `Model` can run in two threads. What `drops` says is left out only
    where `forward` is given the draws for it.
    """

    def __init__(
        self, model: Model, T: int, B: int, training: bool = True, drops: Drops = KEEP_ALL
    ) -> None:
        self.model, self.T, self.B, self.training = model, T, B, training
        G, V, D, H, dtype = len(model.cell.gates), model.V, model.D, model.H, model.dtype
        below = [D, *model.widths]  # widths of what enters each layer, and of what the output reads
        self.recurrent = [Recurrent(model.cell, T, B, n, dtype, training) for n in model.widths]
        self.inputs: list[OneHot | Dense] = [
            Dense(G, m, T, B, n, dtype) if m else OneHot(G, V, T * B, n, dtype)
            for m, n in zip(below, model.widths, strict=False)
        ]
        if D:
            self.embedding = Embedding(V, D, T, B, dtype)
        self.output = SoftmaxOutput(V, T * B, D if model.tie else H, dtype)
        if model.tie:
            self.dE = empty((V, D), dtype)  # the part that comes from the input
        if "Wp" in model.weights:
            self.projection = Dense(1, H, T, B, D, dtype)
            self.s, self.ds = empty((1, T, B, D), dtype), empty((1, T, B, D), dtype)
        memory = empty((T * B * max(below),), dtype)  # gradients of x, one in the other's place
        self.dx = [memory[: T * B * n].reshape(T, B, n) for n in below]
        self.drops, self.dropping = drops, False
        self.ids = self.known = np.empty((T if drops.input_drop else 0, B), np.intp)
        self.dropouts: dict[int, Dropout] = {}
        self.dropped: dict[int, Array] = {}
        self.Wh_masks: list[Mask] = []
        if drops.dropout:  # below each layer with dense input, and at the end below the output
            p, shared = drops.dropout, drops.variational
            places = {k: n for k, n in enumerate(below) if n}
            self.dropouts = {k: Dropout(p, shared, T, B, n, dtype) for k, n in places.items()}
            # hidden states are needed as they are, too; an embedding is not
            self.dropped = {k: empty((T, B, n), dtype) for k, n in places.items() if k}
        if drops.weight_drop:
            shapes = [(G, n, n) for n in model.widths]
            self.Wh_masks = [Mask(drops.weight_drop, shape, dtype) for shape in shapes]
            self.Wh = [empty(shape, dtype) for shape in shapes]
        self.x: list[Array] = []
        """What entered each layer in the last `forward`, and at the end what the output reads."""

    def forward(self, ids: Array, state: State, draws: Draws | None = None) -> State:
        """Run over ids (T', B), T' <= T, from `state`; return the state after them.

        With `draws`, leave out at random what `drops` says; the same draws give the same masks.
        """
        model, T = self.model, len(ids)
        w, per_layer = model.weights, len(model.cell.states)
        self.dropping = draws is not None
        self.ids = ids if draws is None else self._some_of(ids, draws)
        self.x = [self.ids]
        if model.D:
            x = self.embedding.forward(self.ids, w["E"])
            self.x = [self._dropped(0, x, draws)]
        after: State = []
        for k, layer in enumerate(self.recurrent):
            Wx, Wh, b = (w[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b"))
            write_u = self.inputs[k].prepare(self.x[k], Wx, b, layer.scale)
            if draws is not None and self.Wh_masks:
                mask = self.Wh_masks[k].draw(draws.generator(1 + 2 * k), len(Wh))
                Wh = np.multiply(Wh, mask, out=self.Wh[k])
            before = state[k * per_layer : (k + 1) * per_layer]
            after += layer.forward(Wh, before, T, write_u, self.training)
            self.x.append(self._dropped(k + 1, layer.h[1 : T + 1], draws))
        return after

    # Draws are told apart by their place: 0 for the characters, 1 + 2k for the recurrent weights
    # of layer k, 2 + 2k for what enters it.

    def _some_of(self, ids: Array, draws: Draws) -> Array:
        """The ids, with some of them dropped, which makes them unknown."""
        if not self.drops.input_drop:
            return ids
        known = self.known[: len(ids)]
        np.copyto(known, ids)
        known[draws.generator(0).random(ids.shape) < self.drops.input_drop] = self.drops.unknown
        return known

    def _dropped(self, k: int, x: Array, draws: Draws | None) -> Array:
        """x (T', B, n), which enters layer k or the output, with some of it dropped."""
        if draws is None or not self.dropouts:
            return x
        out = self.dropped[k][: len(x)] if k else x
        return self.dropouts[k].forward(x, draws.generator(2 + 2 * k), out)

    @property
    def top(self) -> Array:
        """What the output read in the last `forward`, hidden states of the uppermost layer (with
        dropout, where there was), (T' * B, H)."""
        return self.x[-1].reshape(-1, self.model.H)

    def logits(self) -> Array:
        """Unnormalised log-probabilities of the next character, (T', B, V)."""
        y: Array = self.top @ self.model.Wy.T + self.model.weights["by"]
        return y.reshape(*self.ids.shape, self.model.V)

    def _read(self) -> tuple[Array, str]:
        """What is multiplied by the output weights, (N, H) or projected (N, D), and their name."""
        model, T = self.model, len(self.ids)
        if "Wp" not in model.weights:
            return self.top, "E" if model.tie else "Wy"
        s = self.s[:, :T]
        self.projection.prepare(self.x[-1], model.weights["Wp"][None], None, None)(0, T, s)
        return s.reshape(-1, model.D), "E"

    def loss(self, targets: Array) -> Array:
        """Cross-entropy of targets (T', B) after the last `forward`, in nats, (T', B)."""
        w = self.model.weights
        read, name = self._read()
        return self.output.loss(read, w[name], w["by"], targets.reshape(-1)).reshape(targets.shape)

    def loss_and_gradient(
        self,
        targets: Array,
        gradient: Parameters,
        scale: float = 1.0,
        dstate: State | None = None,
    ) -> tuple[Array, State]:
        """Backpropagation through time over the last `forward`.

        Writes the gradient of scale * (sum of the nats) into `gradient`. `dstate` is the
        gradient of the state after the segment; left out, it is zero: the gradient is cut at
        the segment's edge. Returns the nats (T', B) and the gradient of the state before.
        """
        model, T = self.model, len(self.ids)
        w, d = model.weights, gradient
        per_layer = len(model.cell.states)
        dx = [part[:T] for part in self.dx]
        projected = "Wp" in w
        read, name = self._read()
        dread = self.ds[:, :T] if projected else dx[-1]
        nats = self.output.loss_and_gradient(
            *(read, w[name], w["by"], targets.reshape(-1), scale),
            *(d[name], d["by"], dread.reshape(read.shape)),
        )
        if projected:
            Wp, dWp = w["Wp"][None], d["Wp"][None]
            self.projection.backward(self.x[-1], Wp, dread, dWp, None, dx[-1])
        dropouts = self.dropouts if self.dropping else {}
        weight_dropping = self.dropping and self.Wh_masks
        if dropouts:
            dropouts[model.layers].backward(dx[-1])
        dbefore: State = []
        for k in range(model.layers - 1, -1, -1):
            layer, below = self.recurrent[k], self.inputs[k]
            Wx, Wh = w[f"layer{k}.Wx"], self.Wh[k] if weight_dropping else w[f"layer{k}.Wh"]
            dWx, dWh, db = (d[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b"))
            ds = None if dstate is None else dstate[k * per_layer : (k + 1) * per_layer]
            dbefore = layer.backward(Wh, dWh, dx[k + 1], ds, T) + dbefore
            if weight_dropping:
                np.multiply(dWh, self.Wh_masks[k].factors, out=dWh)
            du = layer.du[:, :T]
            if isinstance(below, OneHot):
                below.backward(self.ids, du, dWx, db)
            else:
                below.backward(self.x[k], Wx, du, dWx, db, dx[k])
                if dropouts:
                    dropouts[k].backward(dx[k])
        if model.D:
            self.embedding.backward(self.ids, dx[0], self.dE if model.tie else d["E"])
        if model.tie:
            np.add(d["E"], self.dE, out=d["E"])
        return nats.reshape(targets.shape), dbefore


COLUMNS = 16
"""A vector times a matrix is up to a quarter faster where its columns are a multiple of this."""


def _padded(columns: int) -> int:
    return -(-columns // COLUMNS) * COLUMNS


Step = Callable[[Array], Array]


def _stepping(
    cell: Cell, a: Array, v: Array, state: State, multiply: Callable[[], object], result: Array
) -> Step:
    """A step of a layer: from u (G, K, H), with v, the state after it; then `multiply`. Returns
    `result`. A function in a function, since looking up attributes would be felt."""
    forward, views, ours = cell.forward, cell.forward_views(a), a[: len(cell.gates)]

    def step(u: Array) -> Array:
        ours[...] = u
        forward(views, v, state, state)
        multiply()
        return result

    def step_summed(u: Array) -> Array:  # v is where the cell looks for u: no copy
        forward(views, u, state, state)
        multiply()
        return result

    return step_summed if _summed(cell) else step


def _summed(cell: Cell) -> bool:
    """Whether u and v count by their sum alone, so that one may stand for the other."""
    return cell.du == cell.dv


class _StepperLayer:
    """A layer of a `Stepper`: its state, and the products that wait for its hidden state.

    From u (G, K, H) follow the state after the character, and from its h at once v = h Wh
    (G, K, H), for the next character, and `above` = h W + b (g, K, n): u of the layer above, or
    the logits. A single stream has no axis K, and takes one product of a vector with a matrix:
    W and Wh stand side by side in its columns, and its last row, which meets a 1, is b.
    """

    def __init__(self, cell: Cell, K: int, Wh: Array, W: Array, b: Array, top: bool) -> None:
        (G, H, _), (g, _, n), A, dtype = Wh.shape, W.shape, cell.activations, Wh.dtype
        self.multiply: Callable[[], object]
        if K == 1:
            start = _padded(g * n)  # of v among the columns
            end = _padded(start + G * H)
            columns = zeros((H + 1, end), dtype)
            columns[:H, : g * n], columns[H, : g * n] = np.hstack(list(W)), b.reshape(-1)
            columns[:H, start : start + G * H] = own = np.hstack(list(Wh))
            out = empty((max(end, start + A * H),), dtype)
            self.above, v = out[: g * n].reshape(g, n), out[start : start + G * H].reshape(G, H)
            a = out[start : start + A * H].reshape(A, H) if _summed(cell) else empty((A, H), dtype)
            with_1 = np.ones(H + 1, dtype)
            h, rest = with_1[:H], [empty((H,), dtype) for _ in cell.states[1:]]
            self.multiply = partial(with_1.dot, columns, out[:end])
            multiply_own = partial(h.dot, own, v.reshape(-1))
            self.read = _stepping(cell, a, v, [h, *rest], multiply_own, h)
        else:
            a = empty((A, K, H), dtype)
            v = a[:G] if _summed(cell) else empty((G, K, H), dtype)
            h, *rest = (empty((K, H), dtype) for _ in cell.states)
            # the logits' memory is (V, K)
            self.above = empty((g, n, K), dtype).swapaxes(1, 2) if top else empty((g, K, n), dtype)
            biases = np.empty_like(self.above)  # in the same order: quicker than broadcasting
            biases[...] = b

            def product(W: Array, out: Array) -> Callable[[], None]:
                G, H, n = W.shape
                panels = Panels(K, G, H, n, dtype)
                panels.fill(W)
                return partial(panels.multiply, panels.rows(h), panels.columns(out))

            products = product(Wh, v), product(W, self.above)

            def multiply() -> None:
                for each in products:
                    each()
                np.add(self.above, biases, out=self.above)

            self.multiply = multiply
        self.state, self.v = [h, *rest], v.reshape(G, K, H)
        self.step = _stepping(cell, a, v, self.state, self.multiply, self.above)


class Stepper:
    """The model one character at a time, for K streams, with nothing allocated in a step.

    It begins at `state`, each array (K, H), or (1, H) for all streams alike; None: zero. That is
    copied, and `Stepper.state` is changed in place. `logits` (K, V) are always those of the next
    character, times `sharpness`, and valid until one is fed. An embedding, tied or not, costs
    nothing: it is multiplied with the weights that it meets beforehand.
    """

    def __init__(
        self, model: Model, K: int, state: State | None = None, sharpness: float = 1.0
    ) -> None:
        cell, weights, dtype = model.cell, model.weights, model.dtype
        G, V, H = len(cell.gates), model.V, model.widths[0]
        scale = np.array(cell.scale, dtype).reshape(G, 1, 1)
        table = (
            empty((V + 1, G, H), dtype).swapaxes(0, 1) if K == 1 else empty((G, V + 1, H), dtype)
        )
        model.input_table(table)
        self.rows = list(table.swapaxes(0, 1)) if K == 1 else []  # (G, H) of each
        self.u = empty((G, K, H), dtype)
        self.gates = list(zip(table, self.u, strict=True)) if K > 1 else []
        Wh = [weights[f"layer{k}.Wh"] * scale for k in range(model.layers)]
        Wx, b = (
            [weights[f"layer{k}.{name}"] * scale for k in range(1, model.layers)]
            for name in ("Wx", "b")
        )
        Wy, by = model.Wy * sharpness, weights["by"] * sharpness
        above = [*Wx, Wy.T[None]], [*b, by[None, None]]
        self.layers = [
            _StepperLayer(cell, K, *w, top=k + 1 == model.layers)
            for k, w in enumerate(zip(Wh, *above, strict=True))
        ]
        self.steps = [layer.step for layer in self.layers]
        self.state = [s.reshape(K, -1) for layer in self.layers for s in layer.state]
        self.logits = self.layers[-1].above.reshape(K, V)
        for s, given in zip(self.state, state or model.zero_state(1), strict=True):
            np.copyto(s, given)
        for layer in self.layers:
            layer.multiply()

    def step(self, ids: Sequence[int] | Array) -> Array:
        """Feed one character to each stream; return the logits of the next."""
        if self.rows:
            u = self.rows[ids[0]]
        else:
            for rows, u in self.gates:  # one by one: together they take four times as long
                rows.take(ids, 0, u, "wrap")
            u = self.u
        for step in self.steps:
            u = step(u)
        return self.logits

    def begin(self, k: int, origin: Stepper) -> None:
        """Let stream k go on from where a single stream stands. Its logits are valid only when it
        has been fed."""
        for layer, of_one in zip(self.layers, origin.layers, strict=True):
            for s, at in zip(layer.state, of_one.state, strict=True):
                s.reshape(len(self.logits), -1)[k] = at
            layer.v[:, k] = of_one.v[:, 0]

    def reorder(self, streams: Array) -> None:
        """Let each stream k go on from where streams[k] stands. The logits are valid only when
        all have been fed."""
        self.take_over(self, streams)

    def take_over(self, other: Stepper, streams: Array) -> None:
        """The same from where streams[k] of another stand."""
        for layer, of_other in zip(self.layers, other.layers, strict=True):
            for s, at in zip(layer.state, of_other.state, strict=True):
                s.reshape(len(streams), -1)[...] = at.reshape(len(other.logits), -1)[streams]
            layer.v[...] = of_other.v[:, streams]

    def read(self, ids: Array) -> Array:
        """Feed ids (N,) to a single stream; return what the uppermost layer shows after each,
        (N, H). Of the logits only the last are made."""
        *below, top = self.layers
        shown = np.empty((len(ids), len(top.state[0])), top.state[0].dtype)
        for i, h in zip(ids.tolist(), shown, strict=True):
            u = self.rows[i]
            for layer in below:
                u = layer.step(u)
            h[...] = top.read(u)
        top.multiply()
        return shown
