"""A network recognised by the names and shapes of PyTorch's modules.

The names of the recurrent weights are PyTorch's own; what their module is called does not matter.
The other weights are told apart by their shapes. What is not the same function, or could be read in
two ways, is refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from charlstm.config.schema import Config
from charlstm.exchange.pytorch import GATES
from charlstm.exchange.safetensors import Refused, shown
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.storage.checkpoint import network_shape

Arrays = Mapping[str, Array]

RECURRENT = re.compile(r"(.*?)((?:weight|bias)_(?:ih|hh))_l(0|[1-9]\d?)", re.DOTALL)
"""A weight of a recurrent module: the module with the dot behind it, the kind, the layer."""

NUMBERED = re.compile(r"(.*?)(\d{1,3})(\D*)", re.DOTALL)
"""A module that is one of several."""

EMBEDDING = re.compile(r"emb|enc|wte", re.IGNORECASE)
"""In the names of embeddings, which count only where shapes do not tell."""

REASONS = {
    r".*_reverse": "is of a bidirectional network, which reads what it is to predict",
    r".*weight_hr_l\d+": "projects the states of an LSTM (proj_size), which charlstm does not",
}
"""Why a weight of this name is refused."""

ROLES = (("Wy",), ("E", "Wy"), ("E",), ("E", "Wp"))
"""What the weights that are not recurrent may be, as `charlstm.nn.model.Model` names them."""


class Ends(NamedTuple):
    """What stands below and above the recurrent layers: modules by their role, and the bias of the
    output, if it has one."""

    modules: dict[str, str]
    bias: str | None

    @property
    def output(self) -> str:
        """The module of the output's weights."""
        return self.modules["Wy" if "Wy" in self.modules else "E"]

    @property
    def by_name(self) -> bool:
        """Whether the name of the embedding, and no other, is one of an embedding."""
        names = {role: EMBEDDING.search(name) is not None for role, name in self.modules.items()}
        return [role for role, like in names.items() if like] == ["E"]


def recognised(arrays: Arrays, config: Config | None) -> Model:
    """The network that arrays of PyTorch's names and shapes are. The configuration, where it is
    known, says which of several readings is meant. Raises `Refused`."""
    for name in arrays:
        for like, why in REASONS.items():
            if re.fullmatch(like, name, re.DOTALL):
                raise Refused(f"{shown(name)} {why}")
    layers = _layers(arrays)
    rest = {name: array for name, array in arrays.items() if not RECURRENT.fullmatch(name)}
    D, widths = layers[0]["weight_ih"].shape[1], [len(layer["weight_hh"].T) for layer in layers]
    G = len(layers[0]["weight_hh"]) // widths[0]
    cell = next(cell for cell, gates in GATES.items() if len(gates) == G)
    weights, biases = _modules(rest)
    if config is None or config.model.tie:
        _drop_copy(weights)
    readings = []
    for ends in _ends(weights, biases, D, widths[-1]):
        V, embedding = len(weights[ends.output]), D if "E" in ends.modules else 0
        shape = Shape(cell, V, widths, len(widths), embedding, tie="Wy" not in ends.modules)
        if config is None or network_shape(config, V).weights == shape.weights:
            readings.append((shape, ends))
    if len(readings) > 1:
        readings = [(shape, ends) for shape, ends in readings if ends.by_name] or readings
    if len(readings) != 1:
        listed = ", ".join(f"{shown(name)} {array.shape}" for name, array in rest.items())
        way = "in more than one way" if readings else "as an embedding and an output"
        other = "" if config is None else ", or not as its configuration says"
        what = f"around {cell} layers that read {D:,} and show {widths[-1]:,} numbers"
        others = f"its other weights, {listed or 'none':.300},"
        raise Refused(f"{others} cannot be read {way} {what}{other}")
    ((shape, ends),) = readings
    model = Model(shape)
    for k, layer in enumerate(layers):
        _fill_layer(model, k, layer)
    for role, module in ends.modules.items():
        model.weights[role][...] = weights[module].T if role == "Wp" else weights[module]
    if ends.bias is not None:
        model.weights["by"][...] = biases[ends.bias]
    return model


# --- recurrent layers ----------------------------------------------------------------------------


def _layers(arrays: Arrays) -> list[dict[str, Array]]:
    """The weights of each recurrent layer by their kinds, the lowest first."""
    modules: dict[str, dict[int, dict[str, Array]]] = {}
    for name, array in arrays.items():
        if match := RECURRENT.fullmatch(name):
            modules.setdefault(match[1], {}).setdefault(int(match[3]), {})[match[2]] = array
    if not modules:
        raise Refused("it has no recurrent layer with PyTorch's names, such as rnn.weight_ih_l0")
    layers, below = [], None
    for module in _in_order(modules):
        for number in range(len(modules[module])):
            name = shown(f"{module}…_l{number}")
            layer = modules[module].get(number)
            if layer is None:
                raise Refused(f"a layer is missing: {name}")
            _check_layer(name, layer, below)
            below = len(layer["weight_hh"].T)
            layers.append(layer)
    if len({len(layer["weight_hh"]) // len(layer["weight_hh"].T) for layer in layers}) > 1:
        raise Refused("its recurrent layers are of different kinds")
    return layers


def _in_order(modules: Iterable[str]) -> list[str]:
    """Several modules, which must be numbered, by their numbers."""
    matches = {module: NUMBERED.fullmatch(module) for module in modules}
    if len(matches) == 1:
        return list(matches)
    places = sorted((int(m[2]), module) for module, m in matches.items() if m)
    names = {(m[1], m[3]) for m in matches.values() if m}
    first = places[0][0] if places else 0
    if len(names) > 1 or [n for n, _ in places] != list(range(first, first + len(matches))):
        listed = ", ".join(map(shown, matches))
        raise Refused(f"the order of its recurrent modules is not clear: {listed:.200}")
    return [module for _, module in places]


def _check_layer(name: str, layer: dict[str, Array], below: int | None) -> None:
    """Raise `Refused` unless the weights of a layer go together, and with what is below it."""
    if not {"weight_ih", "weight_hh"} <= layer.keys():
        raise Refused(f"a weight is missing: {name} has only {', '.join(layer)}")
    shapes = {kind: array.shape for kind, array in layer.items()}
    rows, H = (*shapes["weight_hh"], 0)[:2]
    n = below or (*shapes["weight_ih"], 0)[1]
    expected: dict[str, tuple[int, ...]] = {"weight_ih": (rows, n), "weight_hh": (rows, H)}
    expected |= {kind: (rows,) for kind in ("bias_ih", "bias_hh") if kind in layer}
    known = H and rows in [H * len(gates) for gates in GATES.values()]
    if not known or shapes != expected:
        listed = ", ".join(f"{kind} {shape}" for kind, shape in shapes.items())
        raise Refused(f"the shapes of {name} are not those of an LSTM, GRU or RNN: {listed}")


def _fill_layer(model: Model, k: int, layer: dict[str, Array]) -> None:
    """Write the weights of a layer into a model. Raises `Refused` where its two biases do not count
    by their sum alone: a GRU has r * (h Wh + b) in its candidate."""
    w, H, theirs = model.weights, model.shape.widths[k], GATES[model.shape.cell]
    b, recurrent = layer.get("bias_ih"), layer.get("bias_hh")
    if recurrent is not None and recurrent.any():
        if model.shape.cell == "gru" and recurrent[2 * H :].any():
            raise Refused(
                f"layer {k} of its GRU has a bias inside the reset gate (the last {H:,} numbers of "
                "bias_hh), which charlstm's GRU has not; train it with these held at zero"
            )
        with np.errstate(over="ignore"):
            b = recurrent if b is None else b + recurrent
        if not np.isfinite(b).all():
            raise Refused(f"the biases of layer {k} have sums that are not finite")
    for slot, gate in enumerate(model.cell.gates):
        rows = slice(theirs.index(gate) * H, (theirs.index(gate) + 1) * H)
        w[f"layer{k}.Wx"][slot] = layer["weight_ih"][rows].T
        w[f"layer{k}.Wh"][slot] = layer["weight_hh"][rows].T
        w[f"layer{k}.b"][slot] = 0.0 if b is None else b[rows]


# --- what is around them -------------------------------------------------------------------------


def _modules(arrays: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
    """The weights and the biases of linear modules, by the names of these."""
    weights: dict[str, Array] = {}
    biases: dict[str, Array] = {}
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and array.ndim == 2:
            weights[module] = array
        elif kind == "bias" and array.ndim == 1:
            biases[module] = array
        else:
            why = "is no part of an embedding, recurrent layers and an output"
            raise Refused(f"{shown(name)} {array.shape} {why}")
    return weights, biases


def _drop_copy(weights: dict[str, Array]) -> None:
    """Drop one of two equal matrices: tied weights that were written twice."""
    for one, other in combinations(weights, 2):
        if np.array_equal(weights[one], weights[other]):
            del weights[other]
            return


def _ends(weights: Arrays, biases: Arrays, D: int, H: int) -> Iterator[Ends]:
    """All readings of the linear modules around layers that read D numbers and show H. A bias is
    the output's; that of tied weights may have another module's name."""
    for roles in ROLES:
        for names in permutations(weights) if len(weights) == len(roles) else ():
            ends = Ends(dict(zip(roles, names, strict=True)), next(iter(biases), None))
            V = len(weights[ends.output])
            shapes = {"E": (V, D), "Wp": (D, H), "Wy": (V, H)}
            tied = "Wy" not in roles
            of_bias = {ends.output} | (biases.keys() - weights.keys() if tied else set())
            fits = [weights[name].shape == shapes[role] for role, name in ends.modules.items()]
            fits += [len(biases) <= 1, biases.keys() <= of_bias]
            fits += [bias.shape == (V,) for bias in biases.values()]
            fits += ["E" in roles or D == V, not tied or ("Wp" in roles) == (D != H)]
            if all(fits):
                yield ends
