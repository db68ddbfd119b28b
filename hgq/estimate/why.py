"""Where the LUTs of a model go: layer by layer, node by node, output by output, weight by weight.

The LUTs of a layer are those of `hgq estimate`. Within it they are shared out by the adder graph that is built: an operation that several
outputs need is split equally among them. Within an output, by what each weight puts into it: signed digits times bits of data, carries
included. What a weight *saves* when it goes, or loses a digit, is no share: the layer is built again without it and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError
from hgq.estimate.ebops import constant_bits, ebops_by_node
from hgq.estimate.kernels import Kernel, kernels, number_of_digits, signed_digits
from hgq.estimate.model import Estimate, estimate
from hgq.estimate.resources import adder_graph
from hgq.estimate.structure import Structure
from hgq.ir.graph import Const, Graph
from hgq.ir.parts import layer_graphs
from hgq.plugins import backend as backend_named
from hgq.resources.lut import FITTED

Index = tuple[int, ...]
COMBINATIONAL = {"stages": "0"}


@dataclass(frozen=True)
class LayerCost:
    """A Keras layer.

    Args:
        layer: Its path.
        lut: LUTs, best guess.
        share: Of the model's LUTs.
        ebops: Exact.
        weights: How many there are, and how many of them are not 0.
        nonzero: Of the weights.
        digits: Signed digits of all weights.
        lut_per_digit: What one of them costs, on average; None without weights.
    """

    layer: str
    lut: float
    share: float
    ebops: float
    weights: int
    nonzero: int
    digits: int
    lut_per_digit: float | None


@dataclass(frozen=True)
class NodeCost:
    """A node of a layer: its op, LUTs, share of the layer's LUTs, EBOPs."""

    node: str
    op: str
    lut: float
    share: float
    ebops: float


@dataclass(frozen=True)
class OutputCost:
    """An output of a kernel: a unit, a channel.

    Args:
        index: Among the outputs.
        lut: LUTs of its products and their sum, additions that it shares counted in part.
        lut_behind: LUTs of the layer's other nodes for it: bias, rounding, activation.
        share: Of the layer's LUTs.
        nonzero: Weights that are not 0.
        digits: Their signed digits.
        adders: Additions that it needs, at all positions.
        shared: Those that other outputs need too.
        widest: Bits of its widest addition.
        ebops: Of its products.
    """

    index: Index
    lut: float
    lut_behind: float
    share: float
    nonzero: int
    digits: int
    adders: int
    shared: int
    widest: int
    ebops: int


@dataclass(frozen=True)
class WeightCost:
    """A weight.

    Args:
        index: In the kernel.
        output: The output that it belongs to.
        value: As frozen.
        digits: Its signed digits, such as ``+2 -0.125``.
        number_of_digits: How many.
        bits: Its effective bits, sign included.
        data_bits: Mean bits of the data that it multiplies.
        uses: Products of it: positions whose data has bits.
        ebops: Of these.
        lut: Its part of its output's LUTs.
        share: Of the layer's LUTs.
        saves: LUTs that the layer loses when the weight becomes 0; None: not asked. Less than 0 where what is shared gets worse.
        shorter: The value without the last signed digit; None where there is one digit only.
        shorter_saves: LUTs that this saves.
    """

    index: Index
    output: Index
    value: float
    digits: str
    number_of_digits: int
    bits: int
    data_bits: float
    uses: int
    ebops: int
    lut: float
    share: float
    saves: float | None = None
    shorter: float | None = None
    shorter_saves: float | None = None


class Why:
    """Answers for one graph on one part.

    Args:
        graph: A frozen model.
        part: Device.
        clock_ns: Clock period asked for.
        options: Options of the rtl backend.

    Raises:
        ConfigError: unknown part or option.
        LoweringError: the rtl backend cannot take the graph.
    """

    def __init__(self, graph: Graph, part: str, clock_ns: float = 5.0, options: Mapping[str, str] | None = None) -> None:
        self.graph, self.estimate = graph, estimate(graph, part, clock_ns, "rtl", options)
        asked = Options(part=self.estimate.device.part, clock_ns=clock_ns, extra=options or {})
        self._shares = backend_named("rtl").shares(graph, asked)
        self._ebops = ebops_by_node(graph)

    @property
    def found(self) -> Estimate:
        """The estimate of the whole model."""
        return self.estimate

    # ---- from layer to weight -----------------------------------------------------------------------------------------------------------

    def layers(self) -> list[LayerCost]:
        """Every layer that has nodes."""
        total = sum(self._lut_of.values())
        rows = []
        for row in self.estimate.layers:
            own = kernels(self.graph, row.layer)
            lut = self._lut_of.get(row.layer, 0.0)
            digits = sum(int(number_of_digits(kernel.const.mantissa).sum()) for kernel in own)
            nonzero = sum(int(np.count_nonzero(kernel.const.mantissa)) for kernel in own)
            weights = sum(kernel.const.mantissa.size for kernel in own)
            each = lut / digits if digits else None
            rows.append(LayerCost(row.layer, lut, lut / total if total else 0.0, row.ebops, weights, nonzero, digits, each))
        return rows

    def nodes(self, layer: str) -> list[NodeCost]:
        """The nodes of a layer.

        Raises:
            ConfigError: there is no such layer.
        """
        self._check(layer)
        whole = self._lut_of.get(layer, 0.0)
        rows = []
        for node in (node for node in self.graph.nodes if node.source == layer):
            lut = self._cost(node.name) * self._lut_per_cost(layer)
            rows.append(NodeCost(node.name, node.op, lut, lut / whole if whole else 0.0, self._ebops[node.name]))
        return rows

    def outputs(self, kernel: Kernel) -> list[OutputCost]:
        """The outputs of a kernel, the dearest first."""
        layer, node = kernel.node.source, kernel.node.name
        scale, whole = self._lut_per_cost(layer), self._lut_of.get(layer, 0.0)
        lut = kernel.by_output(self._array(node, "cost")) * scale
        behind = kernel.by_output(self._behind(kernel)) * scale
        adders, shared = (kernel.by_output(self._array(node, key)) for key in ("adders", "shared"))
        widest = self._array(node, "widest").max(axis=kernel.positions).reshape(kernel.outputs)
        digits, nonzero, ebops = (
            _to_outputs(kernel, part) for part in (number_of_digits(kernel.const.mantissa), kernel.const.mantissa != 0, kernel.ebops)
        )
        rows = [
            OutputCost(
                index,
                float(lut[index]),
                float(behind[index]),
                float((lut[index] + behind[index]) / whole) if whole else 0.0,
                int(nonzero[index]),
                int(digits[index]),
                int(adders[index]),
                int(shared[index]),
                int(widest[index]),
                int(ebops[index]),
            )
            for index in np.ndindex(kernel.outputs)
        ]
        return sorted(rows, key=lambda row: -(row.lut + row.lut_behind))

    def weights(self, kernel: Kernel, output: Index | None = None) -> list[WeightCost]:
        """The weights that are not 0, of one output or of all, the dearest first."""
        layer = kernel.node.source
        whole, bits = self._lut_of.get(layer, 0.0), constant_bits(kernel.const)
        lut = kernel.by_output(self._array(kernel.node.name, "cost")) * self._lut_per_cost(layer)
        digits = number_of_digits(kernel.const.mantissa)
        puts = digits * (kernel.bits + FITTED.carries * kernel.uses)
        of_output = _to_outputs(kernel, puts)
        rows = []
        for index in np.ndindex(kernel.const.mantissa.shape):
            own = kernel.output_of(index)
            if kernel.const.mantissa[index] == 0 or output not in (None, own):
                continue
            part = float(lut[own] * puts[index] / of_output[own]) if of_output[own] else 0.0
            rows.append(
                WeightCost(
                    index,
                    own,
                    float(kernel.const.value[index]),
                    _written(kernel.const, index),
                    int(digits[index]),
                    int(bits[index]),
                    round(float(kernel.bits[index] / kernel.uses[index]), 2) if kernel.uses[index] else 0.0,
                    int(kernel.uses[index]),
                    int(kernel.ebops[index]),
                    part,
                    part / whole if whole else 0.0,
                )
            )
        return sorted(rows, key=lambda row: -row.lut)

    def what_if(self, kernel: Kernel, row: WeightCost) -> WeightCost:
        """The same with what the layer saves without this weight, and without its last signed digit: it is built again and counted."""
        lost = self._lut_with(kernel, row.index, 0)
        mantissa = int(kernel.const.mantissa[row.index])
        sign, power = signed_digits(mantissa)[-1]
        kept = mantissa - sign * 2**power
        before = self._lut_alone(kernel.node.source)
        if not kept:
            return replace(row, saves=before - lost)
        value = float(kept * 2.0 ** -int(np.broadcast_to(kernel.const.format.f, kernel.const.mantissa.shape)[row.index]))
        return replace(row, saves=before - lost, shorter=value, shorter_saves=before - self._lut_with(kernel, row.index, kept))

    # ---- what a user names --------------------------------------------------------------------------------------------------------------

    def find(self, text: str) -> tuple[str, Kernel | None, Index | None]:
        """``layer``, ``layer[output]``, ``layer[weight index]``, or a node instead of the layer: (layer, kernel, index).

        Raises:
            ConfigError: there is no such thing; says what there is.
        """
        match = re.fullmatch(r"(.*?)(?:\[([\d,\s]*)\])?", text.strip())
        name, numbers = (match[1], match[2]) if match else (text, None)
        index = tuple(int(part) for part in numbers.split(",") if part.strip()) if numbers is not None else None
        names = {node.name: node for node in self.graph.nodes}
        if name in names:
            layer, own = names[name].source, tuple(kernel for kernel in kernels(self.graph) if kernel.node.name == name)
        else:
            self._check(name)
            layer, own = name, kernels(self.graph, name)
        if index is None:
            return layer, (own[0] if len(own) == 1 else None), None
        if len(own) != 1:
            raise ConfigError(
                "This layer has no weights." if not own else "This layer has several kernels.",
                where=text,
                expected=", ".join(f"{kernel.node.name}[…]" for kernel in own) or "a layer with weights",
                received=text,
            )
        kernel, shape = own[0], own[0].const.mantissa.shape
        for kind in (kernel.outputs, shape):
            if len(index) == len(kind) and all(number < size for number, size in zip(index, kind, strict=True)):
                return layer, kernel, index
        raise ConfigError(
            "There is no such output or weight.",
            where=text,
            expected=f"an output within {list(kernel.outputs)}, or a weight within {list(shape)}, counted from 0",
            received=str(list(index)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The layers and their nodes as JSON values."""
        layers = [{**asdict(row), "nodes": [asdict(node) for node in self.nodes(row.layer)]} for row in self.layers()]
        return {"model": self.graph.name, "part": self.estimate.device.part, "layers": layers}

    # ---- how ----------------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _lut_of(self) -> dict[str, float]:
        return {row.layer: row.counts.lut.value if row.counts else 0.0 for row in self.estimate.layers}

    def _check(self, layer: str) -> None:
        known = [row.layer for row in self.estimate.layers]
        if layer not in known:
            raise ConfigError("There is no such layer.", where=self.graph.name, expected=", ".join(known), received=repr(layer))

    def _array(self, node: str, key: str) -> np.ndarray:
        found = self._shares.get(node)  # constant results are folded away: they cost nothing
        return found[key] if found is not None else np.zeros(self.graph.shapes()[node], float if key == "cost" else np.int64)

    def _cost(self, node: str) -> float:
        return float(self._array(node, "cost").sum())

    def _lut_per_cost(self, layer: str) -> float:
        cost = sum(self._cost(node.name) for node in self.graph.nodes if node.source == layer)
        return self._lut_of.get(layer, 0.0) / cost if cost else 0.0

    def _behind(self, kernel: Kernel) -> np.ndarray:
        """Costs of what else the layer does with the kernel's result, element by element."""
        name, layer = kernel.node.name, kernel.node.source
        shape, total, reached = self.graph.shapes()[name], np.zeros(self.graph.shapes()[name]), {name}
        for node in self.graph.nodes:
            same = node.source == layer and self.graph.shapes()[node.name] == shape
            if same and node.name != name and reached.intersection(node.inputs) and node.op not in ("matmul", "conv", "einsum"):
                reached.add(node.name)
                total += self._array(node.name, "cost")
        return total

    def _lut_alone(self, layer: str, change: Callable[[Graph], Graph] = lambda graph: graph) -> float:
        """LUTs of a layer built alone, without registers."""
        graph = change(layer_graphs(self.graph)[layer])
        asked = Options(part=self.estimate.device.part, extra=COMBINATIONAL)
        try:
            structure = Structure.of(backend_named("rtl").resources(graph, asked), "rtl")
        except LoweringError:  # nothing is left that depends on an input
            return 0.0
        return float(adder_graph(structure, self.estimate.device).lut.value)

    def _lut_with(self, kernel: Kernel, index: Index, mantissa: int) -> float:
        def changed(graph: Graph) -> Graph:
            const = kernel.const
            numbers = const.mantissa.copy()
            numbers[index] = mantissa
            new = Const.minimal(const.name, numbers, np.broadcast_to(const.format.f, numbers.shape))
            return graph.with_(consts={**graph.consts, const.name: new})

        return self._lut_alone(kernel.node.source, changed)


def _to_outputs(kernel: Kernel, values: np.ndarray) -> np.ndarray:
    """An array of the shape of the kernel, summed to its outputs in the order of the result."""
    kept = sorted(kernel.axes)
    summed = values.sum(axis=tuple(axis for axis in range(values.ndim) if axis not in kept))
    return np.transpose(summed, [kept.index(axis) for axis in kernel.axes])


def _written(const: Const, index: Index) -> str:
    f = int(np.broadcast_to(const.format.f, const.mantissa.shape)[index])
    return " ".join(f"{'+' if sign > 0 else '-'}{2.0 ** (power - f):g}" for sign, power in signed_digits(int(const.mantissa[index])))
