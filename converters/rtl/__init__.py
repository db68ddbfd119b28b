"""The rtl backend: a graph becomes pipelined Verilog or VHDL made of additions, by way of alkaid's distributed arithmetic.

=================  =====================================================================================
`settings.py`      this backend's own options; the default pipeline for a part and clock
`trace.py`         graph -> alkaid's adder graph, checked against the golden model; alkaid's own simulation of it
`lower.py`         one node on alkaid's symbolic arrays
`schedule.py`      which operation goes into which stage
`pipeline.py`      adder graph -> stages and registers
`layout.py`        which bits of the ports are what
`emit.py`          stages -> `FirmwareProject`
`boards.py`        boards, one TOML file each
`shell.py`         the project of a board around the core: streams, registers, benches, scripts
`simulate.py`      compiles the project with Verilator (or GHDL) and runs it
`summary.py`       cost, registers, cycles, delay, node by node
`shares.py`         the same for each element of a node's result
`alike.py`          the same as `summary.py` for large convolutions: positions that are alike are counted once
`positions.py`      which positions those are, and one of them as a graph
=================  =====================================================================================

Neither importing nor using this package imports Keras or TensorFlow. alkaid is imported on first use only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgq.backend import Backend, Options
from hgq.tools import ToolStatus, status

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hgq.ir.graph import Graph
    from hgq.project import FirmwareProject

    from .pipeline import Pipeline


class RTL(Backend):
    """Verilog or VHDL without multipliers, one sample each clock cycle; see the package's table of contents."""

    name = "rtl"
    simulation = "RTL simulation (Verilator)"

    def options(self) -> Mapping[str, str]:
        from .settings import HELP

        return HELP

    def trace(self, graph: Graph) -> Any:
        """The ``CombLogic`` that alkaid makes of a graph: all inputs and outputs flattened, in graph order.

        Raises:
            LoweringError: an op or constant that alkaid cannot take.
            ToolNotFound: alkaid is not installed.
        """
        return _traced(graph).comb

    def comb_predict(self, graph: Graph, x: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """What alkaid's own bit-exact simulation of that program gives: no compiler needed, and fast.

        Args:
            graph: What to run.
            x: Real numbers, as for `hgq.ir.interpret.run`.

        Returns:
            Float64 array of shape (samples, ...) by the name of each output.
        """
        from .trace import predict

        return predict(_traced(graph), x)

    def pipeline(self, graph: Graph, options: Options) -> Pipeline:
        """The stages that `emit` would write.

        Raises:
            LoweringError: as `trace`; or no output depends on an input.
            ConfigError: an unknown part or option.
        """
        from .pipeline import pipelined
        from .settings import settings_of

        settings = settings_of(options)
        return pipelined(_traced(graph), settings)

    def emit(self, graph: Graph, options: Options) -> FirmwareProject:
        """The project: sources, constraints, a script for Vivado, a test bench with golden vectors. The same input gives the same bytes.

        Raises:
            LoweringError: as `pipeline`.
            ConfigError: an unknown part, an unknown or senseless option.
            ToolNotFound: alkaid is not installed.
        """
        from .emit import emit
        from .settings import settings_of

        settings = settings_of(options)
        traced = _traced(graph)
        core = emit(traced, settings)
        if settings.template is None:
            return core
        from .pipeline import pipelined
        from .shell import wrapped

        return wrapped(core, pipelined(traced, settings), settings)

    def on_board(self, board: str) -> Options:
        """Part and clock of a board, by its name or its file; the name of the project and the template are left to you.

        Raises:
            ConfigError: there is no such board, or its file is not understood.
        """
        from .boards import board_of

        found = board_of(board)
        return Options(part=found.part, clock_ns=found.clock_ns, extra={"template": "axis", "board": board})

    def simulate(
        self,
        graph: Graph,
        options: Options,
        x: ArrayLike | Mapping[str, ArrayLike],
        workdir: str | Path,
        simulator: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Compile the emitted project and feed it one sample each clock cycle. A second run in the same `workdir` does not compile again.

        Some samples are also held on the input until their result is out; both ways must agree. What was measured is written to
        ``simulation.json`` beside the simulator.

        Args:
            graph: What to run.
            options: As for `emit`.
            x: Real numbers, as for `hgq.ir.interpret.run`.
            workdir: Where to compile.
            simulator: ``verilator`` (Verilog) or ``ghdl`` (VHDL); None takes the one for the flavor.

        Raises:
            ToolNotFound: Verilator, g++ or GHDL is absent.
            ToolFailed: one of them ended badly or took too long.
            MismatchError: streamed and held samples give different results.
            LoweringError, ConfigError: as `emit`.
        """
        from .settings import settings_of
        from .simulate import simulate

        settings = settings_of(options)
        return simulate(_traced(graph), settings, x, Path(workdir), simulator)

    def check_tools(self) -> list[ToolStatus]:
        return [status(name) for name in ("verilator", "g++", "ghdl")]

    def latency_cycles(self, graph: Graph, options: Options) -> int:
        """Clock edges from a sample on the input to its result on the output; 0 for combinational logic."""
        return self.pipeline(graph, options).latency_cycles

    def summary(self, graph: Graph, options: Options) -> dict[str, Any]:
        """Cost, registers, cycles and delay, in all and for each node; see `summary.summary`.

        A model whose outputs are constants costs nothing.
        """
        from .pipeline import depends_on_input, pipelined
        from .settings import settings_of
        from .summary import NOTHING, summary

        settings, done = settings_of(options), _traced(graph)
        if not depends_on_input(done):
            return dict(NOTHING)
        cut = (settings.latency_cutoff, settings.stages, settings.ternary_fuse)  # nothing else changes a stage
        if cut not in done.summaries:
            done.summaries[cut] = summary(pipelined(done, settings))
        return copy.deepcopy(done.summaries[cut])

    def resources(self, graph: Graph, options: Options) -> dict[str, Any]:
        """The same as `summary`; of a large graph with convolutions by one position of each kind (`alike`), in seconds."""
        from . import alike
        from .settings import settings_of

        settings = settings_of(options)
        return alike.summary(graph, settings) if alike.is_large(graph) else self.summary(graph, options)

    def pipelines(self, graph: Graph, options: Options) -> list[tuple[int, float]]:
        """From one stage on; until the longest stage is one operation, or as short as `settings.SHORTEST_STAGE`."""
        from .pipeline import depends_on_input, program
        from .schedule import cuts
        from .settings import SHORTEST_STAGE, settings_of

        settings, done = settings_of(options), _traced(graph)
        return cuts(program(done, settings), SHORTEST_STAGE) if depends_on_input(done) else []

    def shares(self, graph: Graph, options: Options) -> dict[str, dict[str, NDArray[Any]]]:
        """Whose the adders are, element by element; see `shares.shares`."""
        from .pipeline import depends_on_input
        from .shares import as_mapping, shares

        done = _traced(graph)
        return as_mapping(shares(done, float(done.comb.cost))) if depends_on_input(done) else {}


def _traced(graph: Graph) -> Any:
    from hgq.plugins import missing_package

    try:
        from .trace import traced

        return traced(graph)
    except ImportError as error:
        known = missing_package(error)
        if known is None:
            raise
        raise known from error


__all__ = ["RTL"]
