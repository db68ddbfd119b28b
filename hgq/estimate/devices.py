"""Devices: one TOML file each in ``devices/``, and the coefficients of their families in ``devices/_families.toml``."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from hgq.errors import ConfigError
from hgq.estimate.fit import Fit
from hgq.estimate.interval import Interval

FOLDER = files("hgq.estimate") / "devices"
"""Where the TOML files are."""


@dataclass(frozen=True)
class Family:
    """Coefficients shared by the devices of one architecture; each is explained where it is written down.

    Args:
        name: Key in ``_families.toml``.
        vendor: ``AMD``, ``Lattice``, ``Gowin`` or ``Intel``.
        lut_inputs: Inputs of one look-up table.
        part_pattern: Regular expression of what follows the die in a part's name: package and speed grade.
        lut_per_cost: LUTs for each unit of adder-graph cost.
        ff_per_bit: Flip-flops for each pipeline register bit.
        srl_per_bit: Shift registers in LUTs, at most, for each register bit of a pipeline with stages shorter than two additions.
        period_base_ns: Clock period of a stage without logic.
        period_per_unit_ns: Added for each unit of adder delay in the longest stage, in a design of 1,000 LUTs.
        crowding_ns: Added to that for each factor e that the design is larger, for its routes are longer; it keeps half of it when smaller.
        period_floor_ns: No clock is faster.
        congestion: ``(slope, offset)`` of the period that routing alone asks for, ``slope * ln(LUT) + offset`` ns, or None if unknown.
        period_spread: Factors around the period.
        carry_period_ns: ``(base, for each carry cell of two positions, for each addition)`` of the longest stage: the period where the
            carry cells are counted, which says more than the above; or None if unknown.
        carry_period_spread: Factors around that.
        grade: Period factor of each speed grade, by its digit.
        basis: Sentences for people.
        yosys: What Yosys calls the family (`hgq.synth.targets`), or None.
        fits: Fits to synthesis, by resource (``lut``, ``ff``), or none.
    """

    name: str
    vendor: str
    lut_inputs: int
    part_pattern: str
    lut_per_cost: Interval
    ff_per_bit: Interval
    srl_per_bit: float
    period_base_ns: float
    period_per_unit_ns: float
    period_floor_ns: float
    crowding_ns: float
    congestion: tuple[float, float] | None
    period_spread: Interval
    carry_period_ns: tuple[float, float, float] | None
    carry_period_spread: Interval
    grade: Mapping[str, float]
    basis: Mapping[str, str]
    yosys: str | None = None
    fits: Mapping[str, Fit] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """One part.

    Args:
        part: As the vendor spells it.
        die: What decides its resources.
        title: A line for people.
        family: Coefficients.
        available: ``lut``, ``ff``, ``dsp``, ``bram18`` (18 Kb blocks).
        source: Where the numbers come from.
    """

    part: str
    die: str
    title: str
    family: Family
    available: Mapping[str, int]
    source: str

    @property
    def period_factor(self) -> float:
        """Of the speed grade that the part's name carries; 1 when it names none we know."""
        grades = re.findall(r"-(\d)", self.part)
        return self.family.grade.get(grades[-1], 1.0) if grades else 1.0


def device_of(part: str) -> Device:
    """The device of a part: its exact name, a board's name, or another package or speed grade of a die that is listed.

    Raises:
        ConfigError: unknown; names the closest ones and how to add a device.
    """
    wanted = part.strip().lower()
    for entry in _entries():
        if wanted in {entry["part"].lower(), entry["die"], *(alias.lower() for alias in entry["aliases"])}:
            named = wanted.startswith(entry["die"]) and wanted != entry["die"]
            return _device(entry, part.strip() if named else entry["part"])
        rest = wanted.removeprefix(entry["die"])
        if rest != wanted and re.fullmatch(_family(entry["family"]).part_pattern, rest):
            return _device(entry, part.strip())
    names = {name.lower(): entry["part"] for entry in _entries() for name in (*entry["aliases"], entry["die"], entry["part"])}
    close = list(dict.fromkeys(names[name] for name in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)))
    example = FOLDER / "xcvu13p.toml"
    raise ConfigError(
        "This part is not known.",
        where="part",
        expected="one of " + ", ".join(entry["part"] for entry in _entries()),
        received=repr(part),
        fix=f"{f'Did you mean {close[0]}? ' if close else ''}To add a device, write one TOML file like {example}.",
    )


def known_devices() -> tuple[Device, ...]:
    """Every device that is listed, by name."""
    return tuple(_device(entry, entry["part"]) for entry in _entries())


def _device(entry: Mapping[str, Any], part: str) -> Device:
    return Device(part, entry["die"], entry["title"], _family(entry["family"]), entry["available"], entry["source"])


@cache
def _entries() -> tuple[dict[str, Any], ...]:
    names = sorted(path.name for path in FOLDER.iterdir())
    return tuple(_read(FOLDER / name) for name in names if name.endswith(".toml") and not name.startswith("_"))


def _read(path: Any) -> dict[str, Any]:
    try:
        entry = tomllib.loads(path.read_text(encoding="utf-8"))
        available = {key: int(entry["available"][key]) for key in ("lut", "ff", "dsp", "bram18")}
        texts = {key: str(entry[key]) for key in ("title", "die", "part", "family", "source")}
        _family(texts["family"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            "A device file is not understood.",
            where=str(path),
            expected="title, die, part, family, source and [available] with lut, ff, dsp, bram18",
            received=f"{type(error).__name__}: {error}",
        ) from error
    return {**texts, "die": texts["die"].lower(), "aliases": tuple(entry.get("aliases", ())), "available": available}


@cache
def _families() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "_families.toml").read_text(encoding="utf-8"))


@cache
def _family(name: str) -> Family:
    if name not in _families():
        raise ConfigError("Unknown device family.", expected=", ".join(_families()), received=repr(name))
    row = _families()[name]
    return Family(
        name=name,
        vendor=row["vendor"],
        lut_inputs=row["lut_inputs"],
        part_pattern=row["part_pattern"],
        lut_per_cost=Interval(*row["lut_per_cost"]),
        ff_per_bit=Interval(*row["ff_per_bit"]),
        srl_per_bit=row["srl_per_bit"],
        period_base_ns=row["period_base_ns"],
        period_per_unit_ns=row["period_per_unit_ns"],
        period_floor_ns=row["period_floor_ns"],
        crowding_ns=row.get("crowding_ns", 0.0),
        congestion=tuple(row["congestion"]) if "congestion" in row else None,
        period_spread=Interval(*row["period_spread"]),
        carry_period_ns=tuple(row["carry_period_ns"]) if "carry_period_ns" in row else None,
        carry_period_spread=Interval(*row.get("carry_period_spread", row["period_spread"])),
        grade=row["grade"],
        basis=row["basis"],
        yosys=row.get("yosys"),
        fits=_fits().get(row.get("yosys"), {}),
    )


@cache
def _fits() -> dict[str, dict[str, Fit]]:
    tables = tomllib.loads((FOLDER / "_synthesis.toml").read_text(encoding="utf-8"))
    return {
        target: {
            resource: Fit(fitted["coefficients"], Interval(*fitted["spread"]), Interval(*fitted["rough_spread"]), fitted["basis"])
            for resource, fitted in resources.items()
        }
        for target, resources in tables.items()
    }
