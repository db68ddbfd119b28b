"""The graph itself: frozen data, no behaviour beyond looking things up.

Every value (an input port, a constant, a node's result) has a unique name. Nodes stand in order of definition. Constants are integers with
a `Fixed` format. The only op that loses information is ``quantize``; all others are exact, so the format of every value follows from the
graph and is computed, never stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hgq.errors import GraphError
from hgq.numerics import Fixed, Ints, Overflow, Rounding

if TYPE_CHECKING:
    from hgq.ir.ranges import RangeArray


@dataclass(frozen=True, eq=False)
class Input:
    """A port. Real numbers are quantized into it *outside* the hardware: by the host, the ADC or the test bench.

    Args:
        name: Unique name, the Keras input's.
        shape: Shape of one sample.
        format: Formats of its elements, same shape. Elements of zero width are not connected to anything.
        rounding: How the host rounds.
        overflow: What the host does with numbers out of range.
    """

    name: str
    shape: tuple[int, ...]
    format: Fixed
    rounding: Rounding = "RND"
    overflow: Overflow = "WRAP"


@dataclass(frozen=True, eq=False)
class Const:
    """Integers that stand for ``mantissa * 2**-format.f``."""

    name: str
    mantissa: Ints
    format: Fixed

    @cached_property
    def value(self) -> np.ndarray:
        """The real numbers, float64; exact, since the spec bounds a constant to 53 bits."""
        return self.format.value(self.mantissa)

    @staticmethod
    def minimal(name: str, mantissa: Ints, f: Any) -> Const:
        """The constant ``mantissa * 2**-f`` with every element in its narrowest format."""
        fixed = Fixed.minimal(mantissa, f)
        shift = np.asarray(f, np.int64) - fixed.f  # zeros cut off at the right; negative only where the element is 0
        return Const(name, np.asarray(mantissa, np.int64) >> np.where(fixed.width > 0, shift, 0), fixed)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: ``name = op(*inputs, **attrs)``.

    Args:
        name: Unique name; also the name of its result.
        op: A key of `hgq.ir.ops.OPS`.
        inputs: Names of ports, constants or earlier nodes.
        attrs: Static arguments: JSON values, tuples of them, or `Fixed`.
        source: Path of the Keras layer it came from, for comments in RTL and for reports.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole model.

    Args:
        name: The model's name.
        inputs: Ports in.
        consts: Constants by name.
        nodes: Operations in order of definition.
        outputs: Names of the values that leave.
        meta: JSON notes for people (versions, accuracy, data used); no part of the digest.
    """

    name: str
    inputs: tuple[Input, ...]
    consts: Mapping[str, Const]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        """The node of this name.

        Raises:
            GraphError: there is none.
        """
        if name not in self._node_by_name:
            known = ", ".join(self._node_by_name)
            raise GraphError(f"No node is called {name!r}.", where=f"graph {self.name}", expected=f"one of {known}", received=repr(name))
        return self._node_by_name[name]

    @cached_property
    def _node_by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _users(self) -> dict[str, list[Node]]:
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                users.setdefault(name, []).append(node)
        return users

    def users(self, name: str) -> tuple[Node, ...]:
        """Nodes that read the value of this name."""
        return tuple(self._users.get(name, ()))

    @cached_property
    def _ranges(self) -> dict[str, RangeArray]:
        from hgq.ir.ranges import prove_ranges

        return prove_ranges(self)

    def ranges(self) -> Mapping[str, RangeArray]:
        """What each port and node can reach, by name, with a batch axis of one sample."""
        return self._ranges

    @cached_property
    def _formats(self) -> dict[str, Fixed]:
        return {name: value.format() for name, value in self._ranges.items()} | {name: const.format for name, const in self.consts.items()}

    def formats(self) -> Mapping[str, Fixed]:
        """The narrowest format proven to hold each value without loss, by name; shapes without batch."""
        return self._formats

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each value, without batch."""
        return {name: fixed.shape for name, fixed in self._formats.items()}

    def with_(self, **changes: Any) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def digest(self) -> str:
        """SHA-256 of everything that decides what the hardware does; the same on every run, machine and Python version."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        payload, arrays = payload_of(self)
        sha = hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode())
        for key in sorted(arrays):
            sha.update(key.encode())
            sha.update(np.ascontiguousarray(arrays[key], "<i8").tobytes())
        return sha.hexdigest()


def payload_of(graph: Graph) -> tuple[dict[str, Any], dict[str, Ints]]:
    """A graph without its meta as JSON values plus named int64 arrays; `hgq.ir.file` writes it, `Graph.digest` hashes it."""
    arrays: dict[str, Ints] = {}

    def encode(value: Any, key: str) -> Any:
        if isinstance(value, Fixed):
            for name, part in zip("kif", value.astuple(), strict=True):
                arrays[f"{key}.{name}"] = part
            return {"fixed": key, "shape": list(value.shape)}
        if isinstance(value, tuple | list):
            return [encode(item, f"{key}.{index}") for index, item in enumerate(value)]
        return value

    def array(value: Ints, key: str) -> dict[str, Any]:
        arrays[key] = value
        return {"array": key, "shape": list(value.shape)}

    payload = {
        "name": graph.name,
        "inputs": [
            {
                "name": port.name,
                "shape": list(port.shape),
                "format": encode(port.format, f"input:{port.name}"),
                "rounding": port.rounding,
                "overflow": port.overflow,
            }
            for port in graph.inputs
        ],
        "consts": [
            {"name": c.name, "mantissa": array(c.mantissa, f"const:{c.name}"), "format": encode(c.format, f"const:{c.name}")}
            for _, c in sorted(graph.consts.items())  # a mapping has no order of its own
        ],
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "inputs": list(node.inputs),
                "attrs": {key: encode(node.attrs[key], f"node:{node.name}.{key}") for key in sorted(node.attrs)},
                "source": node.source,
            }
            for node in graph.nodes
        ],
        "outputs": list(graph.outputs),
    }
    return payload, arrays


def graph_of(payload: Mapping[str, Any], arrays: Mapping[str, Ints], meta: Mapping[str, Any]) -> Graph:
    """The inverse of `payload_of`."""

    def decode(value: Any) -> Any:
        if isinstance(value, dict) and "fixed" in value:
            return Fixed(*(arrays[f"{value['fixed']}.{name}"].reshape(value["shape"]) for name in "kif"))
        if isinstance(value, list):
            return tuple(decode(item) for item in value)
        return value

    inputs = (
        Input(item["name"], tuple(item["shape"]), decode(item["format"]), item["rounding"], item["overflow"]) for item in payload["inputs"]
    )
    consts = (
        Const(item["name"], arrays[item["mantissa"]["array"]].reshape(item["mantissa"]["shape"]), decode(item["format"]))
        for item in payload["consts"]
    )
    nodes = (
        Node(item["name"], item["op"], tuple(item["inputs"]), {k: decode(v) for k, v in item["attrs"].items()}, item["source"])
        for item in payload["nodes"]
    )
    return Graph(payload["name"], tuple(inputs), by_name(consts), tuple(nodes), tuple(payload["outputs"]), dict(meta))


def by_name(consts: Iterable[Const]) -> dict[str, Const]:
    """Constants keyed by their names."""
    return {const.name: const for const in consts}
