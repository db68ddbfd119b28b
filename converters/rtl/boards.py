"""Boards: one TOML file each, in `firmware_templates/boards/`, or one of yours."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hgq.backend import Options
from hgq.errors import ConfigError

FLOWS = ("ecp5", "zynq", "ooc", "vitis", "quartus")
"""What a board is built by; a folder of templates each."""

_PIN = re.compile(r"[A-Z]{1,3}[0-9]{1,3}|PIN_[A-Z]{1,3}[0-9]{1,3}")
_PLATFORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PINS = {"ecp5": ("clk", "rx", "tx", "reset_n", "leds"), "quartus": ("clk",)}


@dataclass(frozen=True)
class Board:
    """A board.

    Args:
        name: What ``--board`` calls it.
        title: For people.
        source: Where pins and part are from.
        flow: One of `FLOWS`.
        part: The device on it.
        clock_ns: Period of the clock that the template uses.
        stream_bits: Width of the AXI4-Streams: 8, 16, … 1024.
        baud: Of the serial line, where the streams are one.
        platform: AMD's name of an Alveo card's shell.
        pins: Package pin, or pins, by the template's name for it.
    """

    name: str
    title: str
    source: str
    flow: str
    part: str
    clock_ns: float
    stream_bits: int
    baud: int | None = None
    platform: str | None = None
    pins: Mapping[str, Any] = field(default_factory=dict)


@cache
def known_boards() -> dict[str, Board]:
    """The boards that come with hgqc."""
    folder = files("hgq.firmware_templates").joinpath("boards")
    found = [_read(entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {board.name: board for board in sorted(found, key=lambda board: board.name)}


def board_of(name: str) -> Board:
    """The board of this name, or of a TOML file of your own.

    Raises:
        ConfigError: there is none, or its file is not understood.
    """
    if name in known_boards():
        return known_boards()[name]
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return _read(path.name, path.read_text(encoding="utf-8"))
    raise ConfigError(
        "There is no such board.",
        where="--board",
        expected=f"{', '.join(known_boards())}, or the path of a TOML file like theirs",
        received=repr(name),
    )


def _read(file: str, text: str) -> Board:
    try:
        row = tomllib.loads(text)
        board = Board(name=file.removesuffix(".toml"), **row)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise _wrong(file, "title, source, flow, part, clock_ns, stream_bits, perhaps baud, platform and [pins]", str(error)) from error
    Options(part=board.part, clock_ns=board.clock_ns)  # a part and a clock that can stand in scripts
    pins = [pin for value in board.pins.values() for pin in (value if isinstance(value, list) else [value])]
    checks: list[tuple[bool, str, Any]] = [
        (bool(_WORD.fullmatch(board.name)), "a file name of small letters, digits and underscores", board.name),
        (board.flow in FLOWS, f"flow: {' or '.join(FLOWS)}", board.flow),
        (board.stream_bits in {8 << n for n in range(8)}, "stream_bits: a power of two from 8 to 1024", board.stream_bits),
        (all(isinstance(pin, str) and _PIN.fullmatch(pin) for pin in pins), "pins such as G2", pins),
        (set(_PINS.get(board.flow, ())) <= set(board.pins), f"pins: {', '.join(_PINS.get(board.flow, ()))}", sorted(board.pins)),
        (board.platform is None or bool(_PLATFORM.fullmatch(board.platform)), "platform: letters, digits, _ . -", board.platform),
        (board.flow != "vitis" or board.platform is not None, "platform", None),
        (board.flow != "ecp5" or (isinstance(board.baud, int) and 300 <= board.baud <= 12_000_000), "baud: 300 to 12000000", board.baud),
        (board.flow != "ecp5" or board.stream_bits == 8, "stream_bits = 8: a byte of the serial line", board.stream_bits),
    ]
    for fine, expected, received in checks:
        if not fine:
            raise _wrong(file, expected, repr(received))
    return board


def _wrong(file: str, expected: str, received: str) -> ConfigError:
    return ConfigError("The file of a board is not understood.", where=file, expected=expected, received=received)
