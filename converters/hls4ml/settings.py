"""This backend's own options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hgq.backend import Options, check_extra
from hgq.errors import ConfigError

from .dialect import DIALECTS, Dialect
from .vendors import BOTH, VENDORS, Vendor

HELP = {
    "backend": f"whose HLS compiler: {', '.join(VENDORS)}; default Vitis",
    "strategy": "how products are built: latency (constant multipliers), resource (shared multipliers), resource_unrolled (the same with "
    "the loop unrolled), distributed_arithmetic (da4ml's shared adders); strategy:LAYER=… for one layer; default: latency, or resource "
    "where the backend has only that",
    "reuse_factor": "products that share one multiplier, 1 or more, not for distributed_arithmetic; reuse_factor:LAYER=… for one layer "
    "(its path in the model; * and ? stand for anything); default 1",
    "io_type": "interface of the top function and of layers: io_parallel (every element has its own wires) or io_stream (pixel by pixel, "
    "for images; there quantizers have granularity=channel or tensor); default io_parallel",
    "namespace": "C++ namespace around the generated code, Vitis and Vivado only; default none",
    "board": "board of the backend VivadoAccelerator, as hls4ml calls it; default pynq-z2",
}
PER_LAYER = ("strategy", "reuse_factor")

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TAKEN_NAMESPACES = ("nnet", "hls", "std")
STRATEGIES = tuple(dict.fromkeys(name for vendor in VENDORS.values() for names in vendor.strategies.values() for name in names))


@dataclass(frozen=True)
class Settings:
    """The options, parsed.

    Args:
        strategy: For all layers that have products.
        reuse_factor: The same.
        io_type: ``io_parallel`` or ``io_stream``.
        namespace: Of the C++.
        backend: hls4ml's name of the compiler.
        board: Of VivadoAccelerator.
        strategies: Pattern of layers' paths and their strategy; the last that fits counts.
        reuse_factors: Pattern of layers' paths and their reuse factor; the last that fits counts.
    """

    strategy: str = "latency"
    reuse_factor: int = 1
    io_type: str = "io_parallel"
    namespace: str | None = None
    backend: str = "Vitis"
    board: str | None = None
    strategies: tuple[tuple[str, str], ...] = ()
    reuse_factors: tuple[tuple[str, int], ...] = ()

    @property
    def stream(self) -> bool:
        """Whether values pass as streams."""
        return self.io_type == "io_stream"

    @property
    def vendor(self) -> Vendor:
        """The row of the compiler."""
        return VENDORS[self.backend]

    @property
    def dialect(self) -> Dialect:
        """The compiler's C++."""
        return DIALECTS[self.vendor.dialect]

    def strategy_of(self, layer: str) -> str:
        """The strategy of the layer with this path."""
        return next((value for pattern, value in reversed(self.strategies) if fnmatchcase(layer, pattern)), self.strategy)

    def reuse_of(self, layer: str) -> int:
        """The reuse factor of the layer with this path."""
        return next((value for pattern, value in reversed(self.reuse_factors) if fnmatchcase(layer, pattern)), self.reuse_factor)

    @property
    def distributed(self) -> bool:
        """Whether any layer may be distributed arithmetic."""
        return "distributed_arithmetic" in (self.strategy, *(value for _, value in self.strategies))

    def check_layers(self, layers: Iterable[str]) -> None:
        """Refuse what names no layer with products, and what would share the multipliers of a layer that has none.

        Args:
            layers: Paths of the layers that have products.

        Raises:
            ConfigError: there is such an option.
        """
        layers = list(dict.fromkeys(layers))
        for key, pairs in (("strategy", self.strategies), ("reuse_factor", self.reuse_factors)):
            for pattern, value in pairs:
                if not any(fnmatchcase(layer, pattern) for layer in layers):
                    raise ConfigError(
                        "No layer with products has this path.",
                        where=f"--option {key}:{pattern}={value}",
                        expected=", ".join(layers) or "no layer of this model has products",
                        received=repr(pattern),
                    )
        for layer in layers:
            if self.strategy_of(layer) == "distributed_arithmetic" and self.reuse_of(layer) != 1:
                raise _no_multipliers(f"layer {layer}", self.reuse_of(layer))

    @staticmethod
    def of(options: Options) -> Settings:
        """Parse and check `options.extra`.

        Raises:
            ConfigError: an option that does not exist, or a value that it cannot take.
        """
        given = dict(options.extra)
        check_extra(replace(options, extra={_stem(key): value for key, value in given.items()}), HELP, "hls4ml")
        backend = _choice(given, "backend", tuple(VENDORS))
        vendor = VENDORS[backend]
        io_type = _choice(given, "io_type", BOTH)
        names = vendor.strategies[io_type]
        strategy, reuse = _strategy(given, "strategy", vendor, io_type, names[0]), _reuse(given, "reuse_factor")
        if strategy == "distributed_arithmetic" and reuse != 1:
            raise _no_multipliers(f"--option reuse_factor={reuse}", reuse)
        _check_part(options, vendor)
        pairs = [key for key in given if ":" in key]
        return Settings(
            strategy,
            reuse,
            io_type,
            _namespace(given, vendor),
            backend,
            _board(options, vendor),
            tuple((_pattern(key), _strategy(given, key, vendor, io_type, "")) for key in pairs if _stem(key) == "strategy"),
            tuple((_pattern(key), _reuse(given, key)) for key in pairs if _stem(key) == "reuse_factor"),
        )


def _stem(key: str) -> str:
    stem = key.partition(":")[0]
    return stem if stem in PER_LAYER else key


def _pattern(key: str) -> str:
    return key.partition(":")[2]


def _choice(given: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = given.get(name, choices[0])
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    raise ConfigError(
        f"The option {name!r} cannot have this value.",
        where=f"--option {name}={value}",
        expected=" or ".join(choices),
        received=repr(value),
        fix="Take one of these.",
    )


def _strategy(given: dict[str, str], key: str, vendor: Vendor, io_type: str, default: str) -> str:
    value = given.get(key, default).lower()
    if value in vendor.strategies[io_type]:
        return value
    able = [f"{name} ({io})" for name, other in VENDORS.items() for io in BOTH if value in other.strategies[io]]
    raise ConfigError(
        "The option 'strategy' cannot have this value.",
        where=f"--option {key}={given.get(key, default)}",
        expected=f"{' or '.join(vendor.strategies[io_type])}, for {vendor.name} and {io_type}",
        received=repr(given.get(key, default)),
        fix=f"Only these have it: {', '.join(able)}." if able else "Take one of these.",
    )


def _reuse(given: dict[str, str], key: str) -> int:
    value = given.get(key, "1")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise ConfigError(
            "This cannot be a reuse factor.", where=f"--option {key}={value}", expected="an integer, 1 to 999999", received=repr(value)
        )
    return int(value)


def _no_multipliers(where: str, reuse: int) -> ConfigError:
    return ConfigError(
        "Distributed arithmetic has no multipliers that could be reused.",
        where=where,
        expected="1",
        received=str(reuse),
        fix="Leave reuse_factor out, or take strategy=latency.",
    )


def _namespace(given: dict[str, str], vendor: Vendor) -> str | None:
    namespace = given.get("namespace") or None
    if namespace is None:
        return None
    if not _NAMESPACE.fullmatch(namespace) or namespace in _TAKEN_NAMESPACES or not vendor.namespaces:
        allowed = f"a letter, then letters, digits or underscores; not {', '.join(_TAKEN_NAMESPACES)}"
        raise ConfigError(
            "This cannot be a C++ namespace here.",
            where=f"--option namespace={namespace}",
            expected=allowed if vendor.namespaces else f"none: hls4ml's {vendor.name} projects have no namespaces",
            received=repr(namespace),
        )
    return namespace


def _check_part(options: Options, vendor: Vendor) -> None:
    if not re.fullmatch(vendor.parts, options.part.lower()):
        raise ConfigError(
            f"{vendor.compiler} has no such part.",
            where=f"--part {options.part}",
            expected=f"for the backend {vendor.name} such as {vendor.part}",
            received=repr(options.part),
            fix=f"--part {vendor.part}",
        )


def _board(options: Options, vendor: Vendor) -> str | None:
    board = options.extra.get("board")
    if vendor.name != "VivadoAccelerator":
        if board is None:
            return None
        raise ConfigError(
            "Only hls4ml's accelerator projects are for a board.",
            where=f"--option board={board}",
            expected="backend=VivadoAccelerator",
            received=f"backend={vendor.name}",
            fix="Leave it out, or see --template of the rtl backend.",
        )
    board, known = board or "pynq-z2", boards()
    if board not in known:
        raise ConfigError("hls4ml has no such board.", where=f"--option board={board}", expected=", ".join(known), received=repr(board))
    if options.part.lower() != known[board].lower():
        raise ConfigError(
            "This is not the part on the board.",
            where=f"--part {options.part}",
            expected=f"{known[board]}, which is on {board}",
            received=repr(options.part),
            fix=f"--part {known[board]}",
        )
    return board


@cache
def boards() -> dict[str, str]:
    """Part by board, as hls4ml has them; empty if it is not installed."""
    spec = find_spec("hls4ml")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    path = folder / "backends" / "vivado_accelerator" / "supported_boards.json"
    return {name: row["part"] for name, row in json.loads(path.read_text()).items()} if path.is_file() else {}
