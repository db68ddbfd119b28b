"""This backend's own options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hgq.backend import Options, check_extra
from hgq.errors import ConfigError

STRATEGIES = ("latency", "distributed_arithmetic")

HELP = {
    "strategy": "how products are built: latency (constant multipliers) or distributed_arithmetic (da4ml's shared adders); default latency",
    "reuse_factor": "products that share one multiplier, 1 or more, strategy latency only; also the initiation interval; default 1",
    "io_type": "interface of the top function and of layers: io_parallel (every element has its own wires) or io_stream (pixel by pixel, "
    "for images; there quantizers have granularity=channel or tensor); default io_parallel",
    "backend": "whose HLS compiler: Vitis; default Vitis",
    "namespace": "C++ namespace around the generated code; default none",
}

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TAKEN_NAMESPACES = ("nnet", "hls", "std")


@dataclass(frozen=True)
class Settings:
    """The options, parsed."""

    strategy: Literal["latency", "distributed_arithmetic"] = "latency"
    reuse_factor: int = 1
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    namespace: str | None = None

    @property
    def stream(self) -> bool:
        """Whether values pass as streams."""
        return self.io_type == "io_stream"

    @staticmethod
    def of(options: Options) -> Settings:
        """Parse and check `options.extra`.

        Raises:
            ConfigError: an option that does not exist, or a value that it cannot take.
        """
        check_extra(options, HELP, "hls4ml")
        given = dict(options.extra)
        _choice(
            given, "backend", ("Vitis",), "Only Vitis HLS projects are written so far; the other vendors of hls4ml come with a later issue."
        )
        io_type = _choice(given, "io_type", ("io_parallel", "io_stream"), "Take one of these.")
        strategy = _choice(given, "strategy", STRATEGIES, "Take one of these; `resource` comes with a later issue.")
        reuse = given.get("reuse_factor", "1")
        if not re.fullmatch(r"[1-9][0-9]{0,5}", reuse):
            raise ConfigError(
                "This cannot be a reuse factor.",
                where=f"--option reuse_factor={reuse}",
                expected="an integer, 1 to 999999",
                received=repr(reuse),
            )
        if strategy == "distributed_arithmetic" and reuse != "1":
            raise ConfigError(
                "Distributed arithmetic has no multipliers that could be reused.",
                where=f"--option reuse_factor={reuse}",
                expected="1",
                received=reuse,
                fix="Leave reuse_factor out, or take strategy=latency.",
            )
        if strategy == "distributed_arithmetic" and io_type == "io_stream":
            raise ConfigError(
                "Distributed arithmetic is written for parallel elements only.",
                where="--option strategy=distributed_arithmetic",
                expected="io_type=io_parallel",
                received="io_type=io_stream",
                fix="Take strategy=latency with io_stream.",
            )
        namespace = given.get("namespace") or None
        if namespace is not None and (not _NAMESPACE.fullmatch(namespace) or namespace in _TAKEN_NAMESPACES):
            raise ConfigError(
                "This cannot be a C++ namespace here.",
                where=f"--option namespace={namespace}",
                expected=f"a letter, then letters, digits or underscores; not {', '.join(_TAKEN_NAMESPACES)}",
                received=repr(namespace),
            )
        return Settings(strategy, int(reuse), io_type, namespace)  # type: ignore[arg-type]


def _choice(given: dict[str, str], name: str, choices: tuple[str, ...], fix: str) -> str:
    value = given.get(name, choices[0])
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    raise ConfigError(
        f"The option {name!r} cannot have this value.",
        where=f"--option {name}={value}",
        expected=" or ".join(choices),
        received=repr(value),
        fix=fix,
    )
