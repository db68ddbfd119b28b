"""The qonnx backend: a graph becomes a QONNX model, whose numbers are those of the firmware.

=============  =====================================================================================
`lower.py`     one function for each op: ONNX arithmetic that float32 computes exactly, and ``Quant`` nodes
`proto.py`     ONNX files without the onnx package
`simulate.py`  runs a model in qonnx's executor
=============  =====================================================================================

Writing needs no package; `simulate` needs qonnx (`pip install hgqc[qonnx]`). Nothing here imports Keras or TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgq.backend import Backend, Options, check_extra
from hgq.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hgq.ir.graph import Graph
    from hgq.project import FirmwareProject


class QONNX(Backend):
    """A QONNX model, for FINN, hls4ml and whoever else reads them; see the package's table of contents."""

    name = "qonnx"
    simulation = "qonnx's executor"

    def options(self) -> Mapping[str, str]:
        return {"batch": "samples that the model takes at once, a fixed size (default: 1)"}

    def emit(self, graph: Graph, options: Options) -> FirmwareProject:
        """``NAME.onnx``, and a page about it. Inputs are real numbers: the ports' quantizers are part of the model.

        Raises:
            LoweringError: sums that float32 cannot hold.
            ConfigError: an unknown or senseless option.
        """
        from hgq.passes import optimize
        from hgq.project import FirmwareProject

        from .document import document
        from .lower import lower

        check_extra(options, self.options(), self.name)
        text = options.extra.get("batch", "1")
        if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
            raise ConfigError("batch is a number of samples.", where="--option batch", expected="1 to 1048576", received=repr(text))
        graph = optimize(graph)
        files: dict[str, str | bytes] = {f"{options.name}.onnx": lower(graph, int(text)), "README.md": document(graph, options)}
        return FirmwareProject(options.name, files, {"backend": self.name, "digest": graph.digest()})

    def simulate(
        self,
        graph: Graph,
        options: Options,
        x: ArrayLike | Mapping[str, ArrayLike],
        workdir: str | Path,
        simulator: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The emitted model in qonnx's executor, node by node: standard nodes by onnxruntime, ``Quant`` by qonnx.

        Raises:
            ToolNotFound: qonnx is not installed.
        """
        from .simulate import simulate

        return simulate(self, graph, options, x)
