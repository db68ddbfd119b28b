"""What format a port has: decided by the quantizers that read it.

Quantizing a model's input is the host's work. One quantizer behind an input becomes the port's format and costs no hardware. Several that
differ share a port wide enough for each of them, and stay behind it as hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hgq.errors import FreezeError
from hgq.ir.graph import Input, Node
from hgq.numerics import Fixed


def settle_ports(
    inputs: Sequence[Input], raw: Mapping[str, tuple[int, ...]], nodes: Sequence[Node], outputs: Sequence[str]
) -> tuple[tuple[Input, ...], tuple[Node, ...], tuple[str, ...]]:
    """Give every raw port a format. Returns ports, nodes and outputs, which may have become ports.

    Args:
        inputs: Ports that have one already.
        raw: Shapes of those that have none.
        nodes: All nodes; of them only quantizers read raw ports.
        outputs: Names of the values that leave.

    Raises:
        FreezeError: nothing reads a port, or its quantizers have no common finer format.
    """
    ports, settled, renamed = list(inputs), list(nodes), dict[str, str]()
    for name, shape in raw.items():
        readers = [node for node in settled if name in node.inputs]
        if not readers:
            raise FreezeError("A model input is never quantized, hence never used.", where=f"input {name}", fix="Remove the input.")
        first = readers[0].attrs
        if all(_same(node.attrs, first, shape) for node in readers):
            ports.append(Input(name, shape, first["format"].reshape(shape), first["rounding"], first["overflow"]))
            settled = _bypass(settled, {node.name: node for node in readers}, name, shape, renamed)
        else:
            ports.append(_common_port(name, shape, readers))
    order = {name: position for position, name in enumerate(raw)}
    ordered = sorted(ports, key=lambda port: order.get(port.name, -1))
    return tuple(ordered), tuple(settled), tuple(renamed.get(name, name) for name in outputs)


def _same(a: Mapping, b: Mapping, shape: tuple[int, ...]) -> bool:
    modes = a["rounding"] == b["rounding"] and a["overflow"] == b["overflow"]
    return modes and a["format"].reshape(shape).equals(b["format"].reshape(shape))


def _bypass(nodes: list[Node], quantizers: Mapping[str, Node], port: str, shape: tuple[int, ...], renamed: dict[str, str]) -> list[Node]:
    """The port has the format of these quantizers: read it instead of them, reshaped where they saw it reshaped. Fills `renamed`."""
    settled: list[Node] = []
    for node in nodes:
        if node.name not in quantizers:
            settled.append(replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs)))
        elif node.attrs["format"].shape == shape:
            renamed[node.name] = port
        else:
            settled.append(Node(node.name, "reshape", (port,), {"shape": node.attrs["format"].shape}, node.source))
    return settled


def _common_port(name: str, shape: tuple[int, ...], readers: Sequence[Node]) -> Input:
    """A port from which each reader gets what it would have got from the real number.

    Truncating to one more fractional bit keeps both TRN and RND exact. A common modulus keeps WRAP exact, a common end keeps SAT exact.
    """
    roundings = {node.attrs["rounding"] for node in readers}
    overflows = {node.attrs["overflow"] for node in readers}
    saturates = overflows <= {"SAT", "SAT_SYM"}
    if (
        not roundings <= {"TRN", "RND"}
        or not (saturates or overflows == {"WRAP"})
        or any(n.attrs["format"].shape != shape for n in readers)
    ):
        raise FreezeError(
            "An input is read by quantizers that no common port can feed exactly.",
            where=f"input {name}, read by {', '.join(node.name for node in readers)}",
            expected="equal quantizers, or roundings TRN/RND with overflows all WRAP or all SAT/SAT_SYM",
            received=f"{', '.join(sorted(roundings))} with {', '.join(sorted(overflows))}",
            fix="Put one hgq.layers.QInput() behind keras.Input and let every branch start from it.",
        )
    parts = [node.attrs["format"] for node in readers]
    k, i, f = (np.max([part.astuple()[index] for part in parts], axis=0) for index in range(3))
    return Input(name, shape, Fixed(k, i, f + 1), "TRN", "SAT" if saturates else "WRAP")
