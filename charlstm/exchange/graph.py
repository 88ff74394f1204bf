"""A model as an ONNX graph, which runs in other languages and in browsers.

The graph reads ids (T, B), with a state for each stream, and gives logits (T, B, V) and the state
after them: with T = 1 it is one step, else whole sequences. Its operators are those of opset 22
(onnx.ai/onnx/operators): Gather or OneHot, LSTM, GRU or RNN, MatMul, Add.
"""

from typing import Any

import numpy as np

from charlstm.errors import UsageError
from charlstm.exchange.pytorch import stacked
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model

OPSET, IR_VERSION = 22, 10
"""Of the ONNX standard, as of version 1.17: what onnxruntime 1.20 and later read."""

GATES = {"rnn": ("h",), "gru": ("q", "r", "n"), "lstm": ("i", "o", "f", "g")}
"""The gates of each cell in the order of ONNX, which calls them z, r, h and i, o, f, c."""

MOST_BYTES = (1 << 31) - 1
"""Of one file: a limit of protobuf."""


class Graph:
    """A graph that grows node by node. Every array has a name."""

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.nodes, self.arrays = onnx, list[Any](), list[Any]()

    def array(self, name: str, values: Array) -> str:
        """Add an array that is part of the model."""
        values = np.ascontiguousarray(values)
        self.arrays.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add an operation; return the name of its first output."""
        node = self.onnx.helper.make_node(operator, inputs, list(outputs), **attributes)
        self.nodes.append(node)
        return outputs[0]


def serialised(model: Model, texts: dict[str, str]) -> bytes:
    """The bytes of an ONNX file, with these texts as its metadata. Raises `UsageError` where the
    package `onnx` is missing, and for a model too large for one file."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        what = "the format onnx needs the package onnx"
        raise UsageError(f"{what}; install it with: pip install 'charlstm[export]'") from None
    if 4 * model.shape.size + (1 << 20) > MOST_BYTES:
        raise UsageError("the model is too large for an ONNX file, which holds 2 GiB")
    h: Any = onnx.helper
    graph = Graph(onnx)
    _add_network(graph, model)
    number = onnx.TensorProto.FLOAT
    states = {name: [1, "B", H] for name, H in model.shape.states.items()}
    inputs = [h.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["T", "B"])]
    inputs += [h.make_tensor_value_info(name, number, size) for name, size in states.items()]
    outputs = [h.make_tensor_value_info("logits", number, ["T", "B", model.V])]
    outputs += [
        h.make_tensor_value_info(f"{name}_next", number, size) for name, size in states.items()
    ]
    made = h.make_model(
        h.make_graph(graph.nodes, "charlstm", inputs, outputs, graph.arrays),
        opset_imports=[h.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="charlstm",
    )
    h.set_model_props(made, texts)
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


def _add_network(graph: Graph, model: Model) -> None:
    """Add everything between the ids and the logits."""
    w, axis = model.weights, graph.array("axis", np.array([1], np.int64))
    x = _add_input(graph, model)
    for k in range(model.shape.layers):
        x = _add_layer(graph, model, k, x)
        x = graph.node("Squeeze", [x, axis], f"layer{k}.shown")  # (T, B, H) of (T, 1, B, H)
    if "Wp" in w:
        x = graph.node("MatMul", [x, graph.array("Wp", w["Wp"])], "projected")
    rows = graph.array("Wy", w["Wy"]) if "Wy" in w else "E"
    columns = graph.node("Transpose", [rows], "columns", perm=[1, 0])
    product = graph.node("MatMul", [x, columns], "product")
    graph.node("Add", [product, graph.array("by", w["by"])], "logits")


def _add_input(graph: Graph, model: Model) -> str:
    """Add what the lowest layer reads. The id -1, a unit outside the vocabulary, is the zero
    vector: the last row of what is looked up, which no other id has."""
    if model.shape.embedding:
        rows = graph.array("E", model.weights["E"])
        unknown = graph.array("unknown", np.zeros((1, model.shape.embedding), np.float32))
        table = graph.node("Concat", [rows, unknown], "table", axis=0)
        return graph.node("Gather", [table, "ids"], "x")
    depth = graph.array("depth", np.array(model.V + 1, np.int64))
    values = graph.array("off_on", np.array([0, 1], np.float32))
    return graph.node("OneHot", ["ids", depth, values], "x")


def _add_layer(graph: Graph, model: Model, k: int, x: str) -> str:
    """Add a recurrent layer over x (T, B, n); return what it shows (T, 1, B, H)."""
    cell, H, gates = model.cell, model.shape.widths[k], GATES[model.cell.name]
    Wx, Wh, b = (stacked(model, f"layer{k}.{name}", gates) for name in ("Wx", "Wh", "b"))
    if k == 0 and not model.shape.embedding:
        Wx = np.pad(Wx, [(0, 0), (0, 1)])  # for the id -1
    both = np.concatenate([b, np.zeros_like(b)])  # the second is of the recurrent side
    weights = [
        graph.array(f"layer{k}.{name}", values[None])
        for name, values in (("W", Wx), ("R", Wh), ("B", both))
    ]
    states = [f"layer{k}.{name}" for name in cell.states]
    reset = {"linear_before_reset": 1} if cell.name == "gru" else {}
    return graph.node(
        cell.name.upper(),
        [x, *weights, "", *states],
        *(f"layer{k}.h_of_all", *(f"{state}_next" for state in states)),
        hidden_size=H,
        **reset,
    )
