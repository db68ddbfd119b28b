"""The rtl backend's own options, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass

from hgq.backend import Options, check_extra
from hgq.errors import ConfigError
from hgq.estimate.devices import Device, device_of

from .boards import Board, board_of

HELP = {
    "flavor": "verilog (default) or vhdl",
    "latency_cutoff": "most additions between two registers (1 to 1000); default: what the clock allows on this part",
    "stages": "number of pipeline stages (1 to 1000) instead of latency_cutoff; 0 writes combinational logic without a clock",
    "template": "axis: AXI4-Streams and registers around the core, test benches, and the project of a board; default none",
    "board": "for template: a board that comes with hgqc, or the path of a TOML file; default none",
    "ternary_fuse": "true or false (default): fuse pairs of additions into three-operand adders; fewer LUTs in AMD's Vivado, not in Yosys",
}

SHORTEST_STAGE = 1.5
"""No stage is asked to be shorter: one addition of 16 bits takes 1.47 units, and an addition cannot be cut."""


@dataclass(frozen=True)
class Settings:
    """What `emit` needs to know beside the graph.

    Args:
        device: The part.
        clock_ns: Clock period asked for.
        name: Top module.
        flavor: ``verilog`` or ``vhdl``.
        latency_cutoff: Longest delay of a stage in additions, or None when `stages` is given.
        stages: Number of stages, 0 for combinational logic, or None when `latency_cutoff` decides.
        ternary_fuse: Three-operand adders.
        template: What goes around the core, or None.
        board: Which it is for.
    """

    device: Device
    clock_ns: float
    name: str
    flavor: str
    latency_cutoff: float | None
    stages: int | None
    ternary_fuse: bool
    template: str | None = None
    board: Board | None = None


def settings_of(options: Options) -> Settings:
    """The settings that `options` ask for.

    Raises:
        ConfigError: an unknown part, an unknown option, or a value that means nothing.
    """
    check_extra(options, HELP, "rtl")
    extra, device = options.extra, device_of(options.part)
    flavor = _choice(extra, "flavor", ("verilog", "vhdl"), "verilog")
    stages = _number(extra, "stages", int, 0, 1000) if "stages" in extra else None
    cutoff = _number(extra, "latency_cutoff", float, 1, 1000) if "latency_cutoff" in extra else None
    if stages is not None and cutoff is not None:
        raise ConfigError(
            "Two options say how to cut the pipeline.",
            where="--option stages and --option latency_cutoff",
            expected="one of them",
            received=f"stages={stages} and latency_cutoff={cutoff:g}",
        )
    if stages is None and cutoff is None:
        cutoff = default_cutoff(device, options.clock_ns)
    ternary = _choice(extra, "ternary_fuse", ("true", "false"), "false") == "true"
    template, board = _template(options, device)
    whole = int(stages) if stages is not None else None
    return Settings(device, options.clock_ns, options.name, flavor, cutoff, whole, ternary, template, board)


def _template(options: Options, device: Device) -> tuple[str | None, Board | None]:
    extra = options.extra
    if "template" not in extra and "board" not in extra:
        return None, None
    if "template" not in extra or "board" not in extra:
        raise ConfigError("A template is for a board, and a board wants a template.", expected="--template axis --board BOARD")
    template, board = _choice(extra, "template", ("axis",), "axis"), board_of(extra["board"])
    if device_of(board.part).part != device.part:
        raise ConfigError(
            "This is not the part on the board.",
            where=f"--part {options.part}",
            expected=f"{board.part}, which is on the {board.title}",
            received=options.part,
            fix="Leave out --part.",
        )
    return template, board


def default_cutoff(device: Device, clock_ns: float) -> float:
    """Delay of the longest stage, in additions, that `hgq estimate` expects to reach `clock_ns` on this part.

    It inverts the period model of `hgq.estimate.latency`: ``clock = grade * (base + unit * cutoff)``, with the family's coefficients.
    """
    family = device.family
    units = (clock_ns / device.period_factor - family.period_base_ns) / family.period_per_unit_ns
    return max(round(units, 2), SHORTEST_STAGE)


def _choice(extra, key: str, known: tuple[str, ...], default: str) -> str:
    value = extra.get(key, default).strip().lower()
    if value not in known:
        raise ConfigError(
            f"The option {key!r} of the backend 'rtl' has no such value.",
            where=f"--option {key}={extra[key]}",
            expected=" or ".join(known),
            received=repr(extra[key]),
        )
    return value


def _number(extra, key: str, kind: type, low: float, high: float) -> float:
    try:
        value = kind(extra[key])
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(
            f"The option {key!r} of the backend 'rtl' has no such value.",
            where=f"--option {key}={extra[key]}",
            expected=f"{what} from {low} to {high}",
            received=repr(extra[key]),
        )
    return value
