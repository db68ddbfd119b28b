"""The hls4ml backend: a graph becomes a project for an HLS compiler, and its C++ can be compiled with g++ and run.

=================  =====================================================================================
`settings.py`      this backend's own options, validated
`rules/`           one ``@lowers("op")`` rule per op, one file per family: which hls4ml layers it becomes, with exact types
`lower.py`         runs the rules over a graph
`vendors.py`       hls4ml's back ends, one row each: compiler, dialect, strategies
`dialect.py`       how each compiler spells numbers, streams and pragmas; frames of our own functions
`generated.py`     layers that are C++ functions of our own, for what hls4ml has no template for
`types.py`         the type of a tensor
`write.py`         hands those layers to hls4ml, checks that it kept our types, collects what it writes
`document.py`      `README.md` and `ports.json` of the project
`driver.py`        the program around the C++ that the C simulation runs
`simulate.py`      compiles the project with g++ and runs it: the C simulation, bit for bit
=================  =====================================================================================

No Keras model is in the loop: layers go straight to ``hls4ml.model.ModelGraph``. Neither importing nor using this package imports Keras or
TensorFlow. Inside it, ``import hls4ml`` is PyPI's hls4ml; this package is only ever ``hgq.converters.hls4ml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgq.backend import Backend, Options
from hgq.tools import ToolStatus, status

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hgq.ir.graph import Graph
    from hgq.project import FirmwareProject


class HLS4ML(Backend):
    """C++ for HLS compilers, written by hls4ml; see the package's table of contents."""

    name = "hls4ml"
    simulation = "C simulation (g++)"

    def options(self) -> Mapping[str, str]:
        from .settings import HELP

        return HELP

    def emit(self, graph: Graph, options: Options) -> FirmwareProject:
        """The project of a graph. The same graph and options give the same bytes.

        Raises:
            LoweringError: an op or a format that hls4ml cannot express exactly; names the node, its layer, and who can.
            ConfigError: an unknown or senseless option.
            ToolNotFound: hls4ml, or da4ml for the strategy distributed_arithmetic, is not installed.
        """
        from hgq.passes import optimize

        from .lower import lower
        from .settings import Settings
        from .write import write

        settings = Settings.of(options)
        return write(lower(optimize(graph), settings), options, settings)

    def simulate(
        self,
        graph: Graph,
        options: Options,
        x: ArrayLike | Mapping[str, ArrayLike],
        workdir: str | Path,
        simulator: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """hls4ml's C simulation: the emitted C++ compiled by g++ and run on the values the golden model's ports get.

        Args:
            graph: What to run.
            options: As for `emit`.
            x: Real numbers by input name, shape (n, *shape); a bare array when there is one input. Any real numbers: the host's part, the
                quantization into the ports, is done by the golden model.
            workdir: Where to compile; binaries in it are used again for the same project.
            simulator: ``csim`` or None.

        Returns:
            Exact outputs as float64 by name, shape (n, *shape).

        Raises:
            ToolNotFound: no g++.
            ToolFailed: g++ or the program failed, or took too long; its log is in `workdir`.
        """
        from .simulate import simulate

        return simulate(self.emit(graph, options), graph, x, Path(workdir), simulator)

    def check_tools(self) -> list[ToolStatus]:
        """g++, which the C simulation needs."""
        return [status("g++")]
