"""What a backend is: it turns a graph into a `FirmwareProject`, and may be able to simulate it and to estimate its cost.

To add one, subclass `Backend` and name it under the entry-point group ``hgq.backends``; export, verify, report and doctor then know it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hgq.errors import ConfigError, LoweringError
from hgq.project import FirmwareProject, check_name
from hgq.tools import ToolStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hgq.ir.graph import Graph

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Options:
    """What every backend is told.

    Args:
        part: Device, as the vendor spells it.
        clock_ns: Clock period in nanoseconds.
        name: Name of the project and of its top module or function.
        extra: The backend's own options as text; see its `Backend.options` and `check_extra`.

    Raises:
        ConfigError: one of them means nothing, or could break out of a Tcl or shell script.
    """

    part: str = "xcvu13p-flga2577-2-e"
    clock_ns: float = 5.0
    name: str = "hgq_top"
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _PART.fullmatch(self.part):
            raise ConfigError(
                "This cannot be a part.", where="part", expected="letters, digits, dots and hyphens", received=repr(self.part)
            )
        if isinstance(self.clock_ns, bool) or not math.isfinite(self.clock_ns) or not 0.05 <= self.clock_ns <= 1e6:
            raise ConfigError(
                "This cannot be a clock period.", where="clock", expected="nanoseconds, from 0.05 to 1e6", received=repr(self.clock_ns)
            )
        object.__setattr__(self, "extra", MappingProxyType({str(key): str(value) for key, value in self.extra.items()}))


@runtime_checkable
class Backend(Protocol):
    """Turns graphs into firmware. Subclass it: all but `name` and `emit` have a sensible default."""

    name: str
    """What ``--backend`` calls it."""
    simulation: str = "simulation"
    """What `simulate` does, for people: which compiler or simulator runs which code."""

    def options(self) -> Mapping[str, str]:
        """One line of help, default included, for each of the backend's own options."""
        return {}

    def emit(self, graph: Graph, options: Options) -> FirmwareProject:
        """The whole project. The same graph and options give the same bytes.

        Raises:
            LoweringError: an op, or a format, that this backend cannot take.
            ConfigError: an unknown or senseless option.
        """
        ...

    def simulate(
        self, graph: Graph, options: Options, x: Any, workdir: str | Path, simulator: str | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compile the emitted project and run it on real numbers.

        Args:
            graph: What to run.
            options: As for `emit`.
            x: Real array of shape (samples, ...), or one by the name of each input.
            workdir: Where to compile; the caller deletes it.
            simulator: One of several that this backend can use, or None for the best that is installed.

        Returns:
            Float64 array of shape (samples, ...) by the name of each output.

        Raises:
            ToolNotFound: the compiler or simulator is absent; the error says how to get it.
            LoweringError: this backend has no simulation.
        """
        raise LoweringError(f"The backend {self.name!r} cannot simulate what it writes.", fix="Leave it out of `hgq verify`.")

    def check_tools(self) -> list[ToolStatus]:
        """Tools that `simulate` wants, found or not."""
        return []

    def resources(self, graph: Graph, options: Options) -> Any:
        """Estimated cost of the graph on this backend; see `hgq.estimate`.

        Raises:
            LoweringError: this backend has no estimate.
        """
        raise LoweringError(f"The backend {self.name!r} has no resource estimate.")

    def pipelines(self, graph: Graph, options: Options) -> list[tuple[int, float]]:
        """Every sensible number of stages with the delay of its longest one, in additions; a stage more is a cycle more.

        Raises:
            LoweringError: this backend has no pipeline.
        """
        raise LoweringError(f"The backend {self.name!r} has no pipeline to cut.", fix="Use `--backend rtl`.")

    def shares(self, graph: Graph, options: Options) -> dict[str, dict[str, NDArray[Any]]]:
        """For each node, arrays of the shape of its result: ``cost`` (that of `resources`, element by element), ``adders``,
        ``shared``, ``widest`` (additions that an element needs; how many of them others need too; bits of the widest).

        Raises:
            LoweringError: this backend does not say.
        """
        raise LoweringError(f"The backend {self.name!r} does not attribute its cost.", fix="Use `--backend rtl`.")


def check_extra(options: Options, known: Mapping[str, Any], backend: str) -> None:
    """Refuse an option in `options.extra` that `backend` does not know.

    Raises:
        ConfigError: naming the options there are, and the likeliest one.
    """
    for name in options.extra:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"The backend {backend!r} has no such option.",
                where=f"--option {name}={options.extra[name]}",
                expected=", ".join(sorted(known)) or "no options at all",
                received=repr(name),
                fix=f"Did you mean {close[0]!r}?" if close else f"`hgq export --backend {backend} --list-options` explains them.",
            )
