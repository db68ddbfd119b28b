"""Which bits of the flat ports are which element, and numbers to and from those bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.ir.graph import Graph
from hgq.numerics import Fixed, Ints


@dataclass(frozen=True, eq=False)
class Slot:
    """Where one graph input or output lies in a flat port.

    Args:
        name: Name of the graph's input or output.
        shape: Shape of one sample.
        format: Formats of its elements in hardware, flattened in C order; zero width where no bit exists.
        offset: Lowest bit of each element, counted in the flat port.
    """

    name: str
    shape: tuple[int, ...]
    format: Fixed
    offset: Ints

    @property
    def bits(self) -> int:
        """Bits of all elements."""
        return int(self.format.width.sum())

    def describe(self) -> dict[str, Any]:
        """For ``ports.json``."""
        width = self.format.width
        return {
            "name": self.name,
            "shape": list(self.shape),
            "lsb": [int(o) if w else None for o, w in zip(self.offset, width, strict=True)],
            "width": width.tolist(),
            **{key: part.tolist() for key, part in zip("kif", self.format.astuple(), strict=True)},
        }


@dataclass(frozen=True, eq=False)
class Layout:
    """One flat port: every element in graph order, C order within, the first in the least significant bits."""

    slots: tuple[Slot, ...]

    @property
    def width(self) -> int:
        """Bits of the port."""
        return sum(slot.bits for slot in self.slots)

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return (self.width + 7) // 8

    @property
    def format(self) -> Fixed:
        """Formats of all elements, flat."""
        return Fixed(*(np.concatenate(parts) for parts in zip(*(slot.format.astuple() for slot in self.slots), strict=True)))

    @property
    def offset(self) -> Ints:
        """Lowest bit of every element."""
        return np.concatenate([slot.offset for slot in self.slots])

    def pack(self, mantissa: Ints, f: Ints) -> NDArray[np.uint8]:
        """Bytes of the port, least significant first, shape (n, row_bytes).

        Args:
            mantissa: Shape (n, elements).
            f: Fractional bits of each element of `mantissa`; hardware that keeps fewer drops the lowest.
        """
        fixed, offset = self.format, self.offset
        drop = f - fixed.f
        raw = np.where(drop >= 0, mantissa >> np.maximum(drop, 0), mantissa << np.maximum(-drop, 0))
        bits = np.zeros((len(mantissa), self.row_bytes * 8), np.uint8)
        for bit in range(int(fixed.width.max(initial=0))):
            here = np.flatnonzero(fixed.width > bit)
            bits[:, offset[here] + bit] = (raw[:, here] >> bit) & 1
        return np.packbits(bits, axis=1, bitorder="little")

    def unpack(self, data: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Real numbers, shape (n, elements), from bytes as `pack` makes them."""
        fixed, offset = self.format, self.offset
        bits = np.unpackbits(data, axis=1, bitorder="little")
        mantissa = np.zeros((len(data), len(offset)), np.int64)
        for bit in range(int(fixed.width.max(initial=0))):
            here = np.flatnonzero(fixed.width > bit)
            mantissa[:, here] |= bits[:, offset[here] + bit].astype(np.int64) << bit
        negative = (fixed.k == 1) & (mantissa >> np.maximum(fixed.width - 1, 0) == 1)
        return fixed.value(np.where(negative, mantissa - (np.int64(1) << fixed.width), mantissa))


def layout_of(values: list[tuple[str, tuple[int, ...]]], precisions: Any) -> Layout:
    """Cut a flat port, whose elements have alkaid's `precisions`, into slots of these names and shapes."""
    kif = np.array([[int(part) for part in precision] for precision in precisions], np.int64).reshape(-1, 3)
    fixed = Fixed(*kif.T).canonical()
    offset = np.concatenate([[0], np.cumsum(fixed.width)])[:-1]
    slots, start = [], 0
    for name, shape in values:
        stop = start + int(np.prod(shape, dtype=np.int64))
        slots.append(Slot(name, shape, fixed[start:stop], offset[start:stop]))
        start = stop
    return Layout(tuple(slots))


def inputs_of(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a graph's inputs."""
    return [(port.name, port.shape) for port in graph.inputs]


def outputs_of(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a graph's outputs."""
    shapes = graph.shapes()
    return [(name, shapes[name]) for name in graph.outputs]


def mantissas(values: NDArray[np.float64], f: Ints) -> Ints:
    """Exact integers of reals that lie on the grid ``2**-f``."""
    return np.ldexp(values, f).astype(np.int64)


def to_hex(rows: NDArray[np.uint8]) -> str:
    """One sample a line, most significant digit first, as ``$readmemh`` reads it."""
    digits = rows.shape[1] * 2
    text = rows[:, ::-1].tobytes().hex().upper()
    return "".join(f"{text[start : start + digits]}\n" for start in range(0, len(text), digits))


def from_hex(text: str, row_bytes: int) -> NDArray[np.uint8]:
    """The inverse of `to_hex`."""
    data = np.frombuffer(bytes.fromhex(text.replace("\n", "")), np.uint8)
    return data.reshape(-1, row_bytes)[:, ::-1]
