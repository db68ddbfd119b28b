"""`hgq freeze`: a trained Keras model becomes a `.hgq` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hgq.cli import _keras, _output

if TYPE_CHECKING:
    from hgq.ir.graph import Graph


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A trained model.", show_default=False)],
    calibration: Annotated[
        Path, typer.Option("--calibration", "-c", metavar="X.npz", help="Samples that show the range of every value.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default="MODEL.hgq")] = None,
    force: _output.Force = False,
) -> None:
    """Turn a trained Keras model into a frozen one: integers only, no Keras, no TensorFlow, ready for every backend."""
    from hgq.errors import require_file
    from hgq.ir import file
    from hgq.output import refuse_existing_file
    from hgq.samples import NUMPY_FILE

    # all of this before the half minute that loading Keras and calibrating take
    target = out or model.with_suffix(".hgq")
    refuse_existing_file(target, force)
    require_file(model, "model", "a .keras file")
    require_file(calibration, "data", NUMPY_FILE)
    _keras.load()
    from hgq.freeze import freeze_file

    graph = freeze_file(model, calibration)
    for name in unused(graph):
        _output.warning(f"{name} is 0 for all calibration samples, and so the firmware does not read it: is {calibration} the right file?")
    written = file.save(graph, target, force=force)
    _output.done(f"{len(graph.nodes)} nodes, {len(graph.consts)} constants, digest {graph.digest()[:16]}")
    _output.result(str(written))


def unused(graph: Graph) -> list[str]:
    """Inputs of which no element has a bit."""
    return [port.name for port in graph.inputs if not (port.format.width > 0).any()]
