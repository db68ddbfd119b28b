"""From IR ops to hls4ml layers, with the exact type of every value.

hls4ml can derive types itself (its pass ``bit_exact``), but by intervals of its own that are wrong in corners. The graph already knows the
proven format of every value, so every type is stated here and that pass is switched off. hls4ml has one type per tensor: the narrowest that
holds the formats of all its elements. Per-element widths live in ``FixedPointQuantizer`` layers, whose C++ casts each element on its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from hgq.errors import LoweringError
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.windows import group_slices
from hgq.numerics import Fixed, bit_length, rescale, trailing_zeros

from .settings import Settings
from .types import const_type, type_name


@dataclass(frozen=True)
class Layer:
    """One hls4ml layer.

    Args:
        value: Name of the graph's value that it computes; None for a step in between, read by the rule's next layer only.
        kind: hls4ml's class name.
        inputs: Names of the graph's values that it reads; ``<previous>`` is the rule's layer before.
        types: hls4ml type by attribute (``result``, ``accum``, ``weight``, …).
        attributes: The rest of the layer's dictionary.
        source: Path of the Keras layer.
    """

    value: str | None
    kind: str
    inputs: tuple[str, ...]
    types: Mapping[str, str]
    attributes: Mapping[str, Any]
    source: str = ""


PREVIOUS = "<previous>"
MAX_RANK = 3
FLOAT32_BITS = 24


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


Rule = Callable[["Context", Node], Iterator[Layer]]
RULES: dict[str, Rule] = {}


def lowers(op: str) -> Callable[[Rule], Rule]:
    """Declare the rule of one IR op: a generator of the layers that it becomes."""

    def register(rule: Rule) -> Rule:
        RULES[op] = rule
        return rule

    return register


@dataclass
class Context:
    """What rules ask and tell."""

    graph: Graph
    settings: Settings
    formats: Mapping[str, Fixed] = field(init=False)
    done: set[str] = field(default_factory=set)
    """Nodes that an earlier rule has absorbed."""

    def __post_init__(self) -> None:
        self.formats = self.graph.formats()

    def shape(self, value: str) -> tuple[int, ...]:
        return self.formats[value].shape

    def type_of(self, *values: str) -> str:
        """The narrowest hls4ml type of a tensor that can hold any of these values."""
        return type_name(*(self.formats[value] for value in values))

    def const(self, name: str) -> Const | None:
        return self.graph.consts.get(name)

    def only_user(self, value: str) -> Node | None:
        """The node that reads this value, if it is read once and is no output."""
        users = self.graph.users(value)
        return users[0] if len(users) == 1 and value not in self.graph.outputs else None

    def absorb_bias(self, node: Node, per_channel: bool) -> tuple[str, Const | None]:
        """The name of the value and the constant, if the only reader of `node` adds a constant to it."""
        user = self.only_user(node.name)
        if user is None or user.op != "add" or self.shape(user.name) != self.shape(node.name):
            return node.name, None
        other = next((self.const(name) for name in user.inputs if name != node.name), None)
        if other is None or (per_channel and not _per_channel(other.mantissa.shape, self.shape(node.name))):
            return node.name, None
        self.done.add(user.name)
        return user.name, other


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
            program.add(layer, node)
    for name in dict.fromkeys(graph.outputs):
        for layer in _output(context, program, name):
            program.add(layer)
        program.outputs[name] = program.flat(name)
    program.drop_unread_reshapes()
    return Program(graph, program.layers, program.types, program.sources, program.inputs, program.outputs)


def _where(node: Node) -> str:
    return f"node {node.name} ({node.op}), layer {node.source or '?'}"


def refused(node: Node, what: str, expected: str | None, received: str | None) -> LoweringError:
    """The error of a node that hls4ml cannot take."""
    return LoweringError(
        what,
        where=_where(node),
        expected=expected,
        received=received,
        fix="Export with --backend rtl, which takes every op and mode, or change this layer.",
    )


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


# ---------------------------------------------------------------------------------------------------------------- types


def _per_channel(shape: tuple[int, ...], value: tuple[int, ...]) -> bool:
    """Whether a constant of this shape has at most one number per last-axis element of a value."""
    return prod(shape[:-1]) == 1 and (not shape or shape[-1] in (1, value[-1])) and len(shape) <= len(value)


def _mask(fixed: Fixed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """hls4ml's (k, B, I), each of shape (1, *shape): B and I count the sign; all 0 where nothing is held (hls4ml #1523)."""
    k, i, f = (part.astype(np.int16) for part in fixed.canonical().astuple())
    return k[None], (k + i + f)[None], (k + i)[None]


def _quantizer(value: str | None, source: str, fixed: Fixed, rounding: str, overflow: str, *, result: str | None = None) -> Layer:
    attributes = {"mask_kbi": _mask(fixed), "RND": rounding, "SAT": overflow, "fusible": None, "overrides": {}}
    return Layer(value, "FixedPointQuantizer", (source,), {"result": result or type_name(fixed)}, attributes)


# ---------------------------------------------------------------------------------------------------------- ports


def _port(context: Context, name: str, fixed: Fixed) -> Iterator[Layer]:
    """A port takes one type; where elements differ, a cast that changes no value tells HLS which bits are constant."""
    if fixed.shape == ():
        raise LoweringError("hls4ml has no scalar ports.", where=f"input {name}", fix="Give the Keras input the shape (1,).")
    uniform = all((part == part.flat[0]).all() for part in fixed.canonical().astuple())
    entry = Layer(name, "InputLayer", (), {"result": type_name(fixed)}, {"input_shape": list(fixed.shape)})
    yield entry
    if not uniform and context.graph.users(name):
        yield _quantizer(name, name, fixed, "TRN", "WRAP")


def _output(context: Context, program: _Builder, name: str) -> Iterator[Layer]:
    """hls4ml cannot return a port, nor one tensor twice; a cast that changes no value makes a tensor of its own."""
    layer = program.flat(name)
    if layer in program.inputs.values() or layer in program.outputs.values():
        yield _quantizer(name, name, context.formats[name], "TRN", "WRAP")


# ------------------------------------------------------------------------------------------------------------ rules


@lowers("quantize")
def _quantize(context: Context, node: Node) -> Iterator[Layer]:
    fixed, rounding, overflow = node.attrs["format"], node.attrs["rounding"], node.attrs["overflow"]
    unsigned = (fixed.k == 0) & (fixed.width > 0)
    if overflow == "WRAP_SM" and unsigned.any():
        if _may_overflow(context.formats[node.inputs[0]], fixed, rounding):
            raise refused(
                node,
                "ap_fixed has no sign-magnitude wrap without a sign.",
                "WRAP, SAT or SAT_SYM, or k = 1 everywhere, or a range that cannot overflow",
                f"WRAP_SM with {int(unsigned.sum())} unsigned elements of {unsigned.size}",
            )
        overflow = "WRAP"
    yield _quantizer(node.name, node.inputs[0], fixed, rounding, overflow)


def _may_overflow(x: Fixed, fixed: Fixed, rounding: str) -> bool:
    low, high = (rescale(end, x.f, fixed.f, rounding) for end in (x.low, x.high))  # type: ignore[arg-type]
    return bool(((low < fixed.low) | (high > fixed.high)).any())


@lowers("matmul")
def _matmul(context: Context, node: Node) -> Iterator[Layer]:
    x, name = node.inputs
    kernel = context.graph.consts[name]
    _check_distributed(context, node, kernel)
    shape, (n_in, n_out) = context.shape(x), kernel.mantissa.shape
    result, bias = context.absorb_bias(node, per_channel=True)
    types = {
        "result": context.type_of(result),
        "accum": context.type_of(node.name, result),  # partial sums may wrap: only their last bits count
        "weight": const_type(kernel),
        "bias": const_type(bias),
    }
    attributes = {
        "n_in": n_in,
        "n_out": n_out,
        "weight_data": kernel.value,
        "bias_data": np.zeros(n_out) if bias is None else np.broadcast_to(bias.value.reshape(-1), (n_out,)).copy(),
        "data_format": "channels_last",
    }
    if len(shape) <= 2:
        yield Layer(result, "Dense", (x,), types, attributes)
        return
    rows = prod(shape[:-1])  # hls4ml's dense layer takes no more axes; in parallel a reshape is free
    yield Layer(None, "Reshape", (x,), {"result": context.type_of(x)}, {"target_shape": [rows, n_in]})
    yield Layer(None, "Dense", (PREVIOUS,), types, attributes)
    yield Layer(result, "Reshape", (PREVIOUS,), {"result": types["result"]}, {"target_shape": [*shape[:-1], n_out]})


@lowers("conv")
def _conv(context: Context, node: Node) -> Iterator[Layer]:
    """Groups and dilation become zeros in the kernel, which hls4ml's latency strategy does not build: it knows neither in parallel."""
    x, name = node.inputs
    kernel = context.graph.consts[name]
    axes = kernel.mantissa.ndim - 2
    if axes > 2:
        raise refused(node, "hls4ml convolves over at most two axes.", "1 or 2", str(axes))
    weight = _spread_kernel(kernel.value, node.attrs["dilation"], node.attrs["groups"])
    result, bias = context.absorb_bias(node, per_channel=True)
    filters = weight.shape[-1]
    attributes = {
        "n_chan": weight.shape[-2],
        "n_filt": filters,
        "weight_data": weight,
        "bias_data": np.zeros(filters) if bias is None else np.broadcast_to(bias.value.reshape(-1), (filters,)).copy(),
        "data_format": "channels_last",
    }
    types = {
        "result": context.type_of(result),
        "accum": context.type_of(node.name, result),
        "weight": const_type(kernel),
        "bias": const_type(bias),
    }
    attributes |= _window_attributes(context.shape(x), context.shape(node.name), weight.shape[:-2], node, "filt")
    yield Layer(result, f"Conv{axes}D", (x,), types, attributes)


def _spread_kernel(kernel: np.ndarray, dilation: tuple[int, ...], groups: int) -> np.ndarray:
    *taps, channels, outputs = kernel.shape
    wide = np.zeros((*((size - 1) * step + 1 for size, step in zip(taps, dilation, strict=True)), channels * groups, outputs))
    spread = tuple(slice(None, None, step) for step in dilation)
    for read, written in group_slices(groups, channels, outputs):
        wide[(*spread, read, written)] = kernel[..., written]
    return wide


@lowers("max_pool")
def _max_pool(context: Context, node: Node) -> Iterator[Layer]:
    x, pool = node.inputs[0], node.attrs["pool"]
    if len(pool) > 2:
        raise refused(node, "hls4ml pools over at most two axes.", "1 or 2", str(len(pool)))
    shape, result = context.shape(x), context.shape(node.name)
    kind = context.type_of(x)
    if any(map(any, node.attrs["padding"])) and kind.startswith("u"):
        raise refused(node, "hls4ml pads unsigned numbers with their greatest.", 'padding="valid", or sizes that need none', "padding")
    attributes: dict[str, Any] = {"n_filt": shape[-1], "data_format": "channels_last"}
    attributes |= _window_attributes(shape, result, pool, node, "pool")
    if len(pool) == 1:
        attributes |= {"n_in": shape[0], "n_out": result[0]}
    yield Layer(node.name, f"MaxPooling{len(pool)}D", (x,), {"result": context.type_of(node.name), "accum": kind}, attributes)


def _window_attributes(shape: tuple[int, ...], result: tuple[int, ...], taps: tuple[int, ...], node: Node, prefix: str) -> dict[str, int]:
    """hls4ml's names for sizes, strides and padding of one or two axes."""
    attributes: dict[str, int] = {}
    names = ("width",) if len(taps) == 1 else ("height", "width")
    ends = {"width": ("pad_left", "pad_right"), "height": ("pad_top", "pad_bottom")}
    for axis, name in enumerate(names):
        attributes |= {
            f"in_{name}": shape[axis],
            f"out_{name}": result[axis],
            f"{prefix}_{name}": taps[axis],
            f"stride_{name}": node.attrs["strides"][axis],
        }
        attributes |= dict(zip(ends[name], node.attrs["padding"][axis], strict=True))
    return attributes


def _check_distributed(context: Context, node: Node, kernel: Const) -> None:
    """da4ml 0.5 and 0.6 round kernels to float32 without a word."""
    if context.settings.strategy != "distributed_arithmetic":
        return
    bits = int(bit_length(np.abs(kernel.mantissa) >> trailing_zeros(kernel.mantissa)).max(initial=0))
    if bits > FLOAT32_BITS:
        raise LoweringError(
            "da4ml rounds weights of more than 24 bits, so distributed arithmetic would not be exact.",
            where=_where(node),
            expected=f"weights of at most {FLOAT32_BITS} significant bits",
            received=f"{bits} bits",
            fix="Take strategy=latency, or fewer bits for this kernel.",
        )


@lowers("add")
def _add(context: Context, node: Node) -> Iterator[Layer]:
    for x, y in (node.inputs, node.inputs[::-1]):
        if (bias := context.const(y)) is not None:
            yield _scale_and_shift(context, node, x, node.name, None, bias)
            return
    yield _merge(context, node)


MERGES = {"add": "add", "subtract": "subtract", "maximum": "maximum", "minimum": "minimum", "product": "multiply"}
"""hls4ml's functions that combine two tensors."""


@lowers("subtract")
@lowers("maximum")
@lowers("minimum")
@lowers("product")
def _merge_rule(context: Context, node: Node) -> Iterator[Layer]:
    yield _merge(context, node)


def _merge(context: Context, node: Node) -> Layer:
    if any(context.const(name) is not None for name in node.inputs):
        raise refused(node, "hls4ml merges no constants.", "two tensors", f"{node.op} with a constant")
    shapes = [context.shape(name) for name in node.inputs]
    if shapes[0] != shapes[1]:
        raise refused(node, f"hls4ml's {MERGES[node.op]} takes tensors of one shape only.", "equal shapes", f"{shapes[0]} and {shapes[1]}")
    return Layer(node.name, "Merge", node.inputs, {"result": context.type_of(node.name)}, {"op": MERGES[node.op]})


@lowers("concatenate")
def _concatenate(context: Context, node: Node) -> Iterator[Layer]:
    rank = len(context.shape(node.name))
    if rank > MAX_RANK:
        raise refused(node, f"hls4ml concatenates at most {MAX_RANK} axes.", f"at most {MAX_RANK} axes", f"{rank} axes")
    attributes = {"axis": node.attrs["axis"] + 1, "op": f"concatenate{rank}d"}
    yield Layer(node.name, "Concatenate", node.inputs, {"result": context.type_of(node.name)}, attributes)


@lowers("multiply")
def _multiply(context: Context, node: Node) -> Iterator[Layer]:
    result, bias = context.absorb_bias(node, per_channel=False)
    yield _scale_and_shift(context, node, node.inputs[0], result, context.graph.consts[node.inputs[1]], bias)


def _scale_and_shift(context: Context, node: Node, x: str, result: str, scale: Const | None, bias: Const | None) -> Layer:
    """``x * scale + bias`` with constants, which hls4ml calls BatchNormalization."""
    shape = context.shape(x)
    if context.shape(node.name) != shape:
        raise refused(node, "A constant of more elements than its operand.", f"a result of shape {shape}", str(context.shape(node.name)))
    given = [const for const in (scale, bias) if const is not None]
    small = all(_per_channel(const.mantissa.shape, shape) for const in given)
    target = shape[-1:] if small else shape

    def spread(const: Const | None, default: float) -> np.ndarray:
        if const is None:
            return np.full(target, default).reshape(-1)
        value = const.value.reshape(-1) if small else const.value
        return np.broadcast_to(value, target).reshape(-1).copy()

    types = {
        "result": context.type_of(result),
        "scale": "ufixed<1,1>" if scale is None else const_type(scale),
        "bias": const_type(bias),
    }
    attributes = {
        "n_in": prod(shape),
        "n_filt": shape[-1] if small else -1,
        "scale_data": spread(scale, 1.0),
        "bias_data": spread(bias, 0.0),
        "use_gamma": True,
        "use_beta": True,
    }
    return Layer(result, "BatchNormalization", (x,), types, attributes)


@lowers("relu")
def _relu(context: Context, node: Node) -> Iterator[Layer]:
    attributes = {"activation": "relu", "n_in": prod(context.shape(node.name))}
    yield Layer(node.name, "Activation", node.inputs, {"result": context.type_of(node.name)}, attributes)


@lowers("reshape")
def _reshape(context: Context, node: Node) -> Iterator[Layer]:
    yield Layer(node.name, "Reshape", node.inputs, {"result": context.type_of(node.name)}, {"target_shape": list(node.attrs["shape"])})


from . import elements  # noqa: E402, F401  more rules, which need the names above
