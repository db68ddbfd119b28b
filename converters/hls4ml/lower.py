"""From IR ops to hls4ml layers, with the exact type of every value.

hls4ml can derive types itself (its pass ``bit_exact``), but by intervals of its own that are wrong in corners. The graph already knows the
proven format of every value, so every type is stated by the rules (`rules/`) and that pass is switched off. hls4ml has one type per tensor:
the narrowest that holds the formats of all its elements. Per-element widths live in ``FixedPointQuantizer`` layers, whose C++ casts each
element on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hgq.errors import LoweringError
from hgq.ir.graph import Graph, Node
from hgq.numerics import Fixed

from . import generated
from .rules import RULES
from .rules.base import PREVIOUS, Context, Layer, cast, kept, refused
from .settings import Settings
from .types import type_name

STREAMED = (
    *("InputLayer", "Dense", "Conv1D", "Conv2D", "MaxPooling1D", "MaxPooling2D", "ZeroPadding1D", "ZeroPadding2D"),
    *("BatchNormalization", "Merge", "Concatenate", "Activation", "Reshape", "UnaryLUT", generated.KIND),
)
"""Kinds of layers that can be streams."""

PRODUCTS = ("Dense", "Conv1D", "Conv2D")
"""Kinds of layers that have a strategy."""


@dataclass(frozen=True)
class Program:
    """A lowered graph: what `write` hands to hls4ml.

    Args:
        graph: The graph that was lowered.
        layers: hls4ml's dictionaries, in order of definition.
        types: hls4ml type of every attribute, by layer name.
        sources: Keras path by layer name.
        inputs: Layer name of each port, in the graph's order.
        outputs: Layer name of each of the graph's outputs; two outputs may share one.
    """

    graph: Graph
    layers: list[dict[str, Any]]
    types: dict[str, dict[str, str]]
    sources: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]


def lower(graph: Graph, settings: Settings) -> Program:
    """The hls4ml layers of a graph.

    Raises:
        LoweringError: an op, mode or width that hls4ml cannot express exactly.
    """
    context = Context(graph, settings)
    program = _Builder(graph)
    for port in graph.inputs:
        for layer in _port(context, port.name, port.format):
            program.add(layer)
        program.inputs[port.name] = program.first[port.name]
    for node in graph.nodes:
        if node.name in context.done:
            continue
        rule = RULES.get(node.op)
        if rule is None:
            raise refused(node, f"hls4ml cannot express the op {node.op!r}.", f"one of {', '.join(RULES)}", node.op)
        for layer in rule(context, node):
            if settings.stream and layer.kind not in STREAMED:
                fix = "Export with io_type=io_parallel, or with --backend rtl."
                raise refused(node, f"hls4ml has no {layer.kind} for streams.", "io_type=io_parallel", "io_type=io_stream", fix)
            program.add(layer, node)
    for name in dict.fromkeys(graph.outputs):
        for layer in _output(context, program, name):
            program.add(layer)
        program.outputs[name] = program.flat(name)
    program.drop_unread_reshapes()
    settings.check_layers(program.sources[layer["name"]] for layer in program.layers if layer["class_name"] in PRODUCTS)
    return Program(graph, program.layers, program.types, program.sources, program.inputs, program.outputs)


class _Builder:
    """Names layers and writes hls4ml's dictionaries."""

    def __init__(self, graph: Graph) -> None:
        self.layers: list[dict[str, Any]] = []
        self.types: dict[str, dict[str, str]] = {}
        self.sources: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.first: dict[str, str] = {}
        self.layer_of: dict[str, str] = {}
        self.reshaped: dict[str, str] = {}
        self.previous = ""
        self.number = 0

    def add(self, layer: Layer, node: Node | None = None) -> None:
        stem = layer.value or (node.name if node else "value")
        if layer.kind == "InputLayer":
            name = _identifier(f"in_{stem}")
            if name in self.types:
                name = f"{name}_{self.number}"
        else:  # the number keeps names unique and away from C++'s and hls4ml's own
            name = f"n{self.number}_{_identifier(stem)}"
        inputs = [self.previous if value == PREVIOUS else self.layer_of[value] for value in layer.inputs]
        self.number += 1
        self.layers.append({"name": name, "class_name": layer.kind, "inputs": inputs, **layer.attributes})
        self.types[name] = dict(layer.types)
        self.sources[name] = node.source if node else ""
        self.previous = name
        if layer.value is not None:
            self.first.setdefault(layer.value, name)
            self.layer_of[layer.value] = name
        if layer.kind == "Reshape":
            self.reshaped[name] = inputs[0]

    def flat(self, value: str) -> str:
        """The layer whose flat array this value is: a parallel tensor's reshape is the array before it, also for hls4ml."""
        layer = self.layer_of[value]
        while layer in self.reshaped:
            layer = self.reshaped[layer]
        return layer

    def drop_unread_reshapes(self) -> None:
        """Reshapes that only outputs read are gone; hls4ml would remove them itself, and print that it does."""
        for layer in reversed(list(self.layers)):
            name = layer["name"]
            if name in self.reshaped and not any(name in other["inputs"] for other in self.layers):
                self.layers.remove(layer)
                del self.types[name], self.sources[name]


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:80].rstrip("_")


def _port(context: Context, name: str, fixed: Fixed) -> Iterator[Layer]:
    """A port takes one type; where elements differ, a cast that changes no value tells HLS which bits are constant."""
    if fixed.shape == ():
        raise LoweringError("hls4ml has no scalar ports.", where=f"input {name}", fix="Give the Keras input the shape (1,).")
    uniform = all((part == part.flat[0]).all() for part in fixed.canonical().astuple())
    entry = Layer(name, "InputLayer", (), {"result": type_name(fixed)}, {"input_shape": list(fixed.shape)})
    yield entry
    if not uniform and context.graph.users(name) and not context.settings.stream:
        yield cast(context, name, name, fixed)


def _output(context: Context, program: _Builder, name: str) -> Iterator[Layer]:
    """hls4ml cannot return a port, nor one tensor twice; a cast that changes no value makes a tensor of its own."""
    layer = program.flat(name)
    if layer in program.inputs.values() or layer in program.outputs.values():
        yield kept(context, name, name, context.formats[name])
