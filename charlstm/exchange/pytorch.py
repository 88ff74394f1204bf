"""Weights under the names and in the shapes of PyTorch's modules: `torch.nn.Embedding`,
`torch.nn.LSTM`, `GRU` or `RNN`, and `torch.nn.Linear`.

PyTorch stacks the gates in the rows of one matrix, in an order of its own. It adds two biases, one
to each side; ours goes to the input's. Its GRU applies the reset gate after the product, as ours
does (documentation of torch.nn.GRU, PyTorch 2.13).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape

GATES = {"rnn": ("h",), "gru": ("r", "q", "n"), "lstm": ("i", "f", "g", "o")}
"""The gates of each cell in PyTorch's order. What it calls z is q here."""


def stacked(model: Model, name: str, gates: Sequence[str]) -> Array:
    """The weights (G, n, H) of a layer as rows (G * H, n), the gates in this order; a bias
    (G, 1, H) as (G * H,)."""
    w = model.weights[name][[model.cell.gates.index(gate) for gate in gates]]
    rows = w.swapaxes(1, 2).reshape(-1, w.shape[1])
    return rows[:, 0] if name.endswith(".b") else rows


def places(shape: Shape) -> list[tuple[str, int]]:
    """The module of each layer and its number there: one module for all layers where they are
    equally wide, else a module for each."""
    if len(set(shape.widths)) == 1:
        return [("rnn", k) for k in range(shape.layers)]
    return [(f"rnn.{k}", 0) for k in range(shape.layers)]


def named(model: Model) -> dict[str, Array]:
    """The weights by PyTorch's names. Tied weights are there once."""
    w, gates = model.weights, GATES[model.cell.name]
    arrays = {"embedding.weight": w["E"]} if "E" in w else {}
    for layer, (module, k) in enumerate(places(model.shape)):
        for ours, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh"), ("b", "bias_ih")):
            arrays[f"{module}.{theirs}_l{k}"] = stacked(model, f"layer{layer}.{ours}", gates)
        arrays[f"{module}.bias_hh_l{k}"] = np.zeros_like(arrays[f"{module}.bias_ih_l{k}"])
    if "Wp" in w:
        arrays["projection.weight"] = w["Wp"].T
    if "Wy" in w:
        arrays["linear.weight"] = w["Wy"]
    return {**arrays, "linear.bias": w["by"]}


def loading(shape: Shape, file: str) -> str:
    """The lines of Python that load a file of `named` into PyTorch."""
    V, D, kind = shape.V, shape.embedding, f"torch.nn.{shape.cell.upper()}"
    below, top = D or V, D if shape.tie else shape.widths[-1]
    made, x = [], f"torch.nn.functional.one_hot(ids, {V}).float()"
    if D:
        made, x = [f"self.embedding = torch.nn.Embedding({V}, {D})"], "self.embedding(ids)"
    if len(set(shape.widths)) == 1:
        made.append(f"self.rnn = {kind}({below}, {shape.widths[0]}, num_layers={shape.layers})")
        run = [f"x, state = self.rnn({x}, state)"]
    else:
        sizes = ", ".join(map(str, pairwise([below, *shape.widths])))
        made.append(f"self.rnn = torch.nn.ModuleList({kind}(*n) for n in [{sizes}])")
        run = [f"x, state = {x}, list(state or [None] * {shape.layers})"]
        run += ["for k, rnn in enumerate(self.rnn):", "    x, state[k] = rnn(x, state[k])"]
    if "Wp" in shape.weights:
        made.append(f"self.projection = torch.nn.Linear({shape.widths[-1]}, {D}, bias=False)")
        run.append("x = self.projection(x)")
    made.append(f"self.linear = torch.nn.Linear({top}, {V})")
    if shape.tie:
        made.append("self.linear.weight = self.embedding.weight")
    return "\n".join(
        [
            *("import json", "", "import torch"),
            *("from safetensors import safe_open", "from safetensors.torch import load_model"),
            *("", "", "class Network(torch.nn.Module):", "    def __init__(self):"),
            *("        super().__init__()", *(f"        {line}" for line in made)),
            *("", "    def forward(self, ids, state=None):  # ids (T, B)"),
            *(f"        {line}" for line in run),
            *("        return self.linear(x), state  # logits (T, B, V)", "", ""),
            *("network = Network()", f"load_model(network, {file!r})"),
            f"units = json.loads(safe_open({file!r}, 'pt').metadata()['vocabulary'])",
            "",
        ]
    )
