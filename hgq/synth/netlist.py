"""A mapped netlist, as Yosys writes it: cells by class, and the deepest paths between registers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgq.errors import ToolFailed
from hgq.synth.targets import Target

_KEEPS = frozenset({"ff", "shift_register", "bram", "bram36", "lutram", "other"})
"""Classes whose outputs no path goes through: a clock or nothing is between their ends."""


@dataclass(frozen=True)
class Netlist:
    """What a synthesised design holds.

    Args:
        cells: Number of cells by type.
        lut: LUTs: all sizes, shift registers, and what carry cells take.
        luts_by_size: Number of inputs -> LUTs that are cells.
        inverter: Cells that only invert; place and route put them into LUTs that are there anyway, so they do not count.
        ff: Flip-flops.
        carry: Carry cells (CARRY4, CARRY8, CCU2C …).
        dsp: Multiplier blocks.
        bram: Block RAMs, in units of 18 Kb.
        depth_lut: Most LUTs on a path between two registers (or ports).
        depth_carry: Most carry cells on one.
        no_factor: Multiplier blocks of which a factor is tied to 0. No design asks for that: Yosys has lost the factor.
    """

    cells: Mapping[str, int]
    lut: int
    luts_by_size: Mapping[int, int]
    inverter: int
    ff: int
    carry: int
    dsp: int
    bram: int
    depth_lut: int
    depth_carry: int
    no_factor: int = 0


def read(path: Path, top: str, target: Target) -> Netlist:
    """The netlist in the JSON file that ``write_json`` of Yosys made.

    Raises:
        ToolFailed: there is none, or it holds a cell that `target` does not know.
    """
    try:
        cells: dict[str, Any] = json.loads(path.read_text())["modules"][top]["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise ToolFailed("Yosys left no netlist.", where=str(path), received=f"{type(error).__name__}: {error}") from error
    design = [cell for cell in cells.values() if not cell["type"].startswith("$")]  # $scopeinfo
    strange = sorted({cell["type"] for cell in design if target.class_of(cell["type"]) is None} | _unmapped(cells.values()))
    if strange:
        raise ToolFailed(
            "The netlist holds cells that hgqc cannot count.",
            where=f"target {target.name}",
            expected=", ".join(target.cells),
            received=", ".join(strange),
            fix="Add them to hgq/synth/targets.py.",
        )
    types = Counter(cell["type"] for cell in design)
    classes: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    for kind, count in types.items():
        classes[target.class_of(kind) or ""] += count
        if target.class_of(kind) == "lut":
            sizes[target.inputs_of_lut(kind)] += count
    return Netlist(
        cells=dict(sorted(types.items())),
        lut=classes["lut"] + classes["shift_register"] + classes["lutram"] + target.luts_of_carry * classes["carry"],
        luts_by_size=dict(sorted(sizes.items())),
        inverter=classes["inverter"],
        ff=classes["ff"],
        carry=classes["carry"],
        dsp=classes["dsp"],
        bram=classes["bram"] + 2 * classes["bram36"],
        depth_lut=_depth(design, target, "lut"),
        depth_carry=_depth(design, target, "carry"),
        no_factor=sum(target.class_of(cell["type"]) == "dsp" and _is_zero(cell, "B") for cell in design),
    )


def _is_zero(cell: Mapping[str, Any], port: str) -> bool:
    bits = cell["connections"].get(port, ())
    return bool(bits) and all(bit == "0" for bit in bits)


def _unmapped(cells: Iterable[Mapping[str, Any]]) -> set[str]:
    """Types of Yosys' own that stand for logic: mapping has left something over."""
    return {cell["type"] for cell in cells if cell["type"].startswith("$") and cell["type"] not in ("$scopeinfo", "$print", "$check")}


def _depth(cells: list[Mapping[str, Any]], target: Target, counted: str) -> int:
    """The most cells of class `counted` on any path."""
    through = [cell for cell in cells if target.class_of(cell["type"]) not in _KEEPS]
    driver: dict[int, int] = {}
    reads: list[list[int]] = []
    for number, cell in enumerate(through):
        inputs: list[int] = []
        for port, bits in cell["connections"].items():
            nets = [bit for bit in bits if isinstance(bit, int)]  # others are constants, "0", "1", "x"
            if cell["port_directions"][port] == "output":
                driver.update(dict.fromkeys(nets, number))
            else:
                inputs += nets
        reads.append(inputs)
    before = [{driver[net] for net in nets if net in driver} for nets in reads]
    after: dict[int, list[int]] = defaultdict(list)
    for number, sources in enumerate(before):
        for source in sources:
            after[source].append(number)
    waiting = [len(sources) for sources in before]
    weight = [int(target.class_of(cell["type"]) == counted) for cell in through]
    depth = weight.copy()
    ready = [number for number, count in enumerate(waiting) if count == 0]
    while ready:
        source = ready.pop()
        for number in after[source]:
            depth[number] = max(depth[number], depth[source] + weight[number])
            waiting[number] -= 1
            if waiting[number] == 0:
                ready.append(number)
    return max(depth, default=0)
