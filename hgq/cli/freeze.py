"""`hgq freeze`: a trained Keras model becomes a `.hgq` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _keras, _output


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A trained model.", show_default=False)],
    calibration: Annotated[
        Path, typer.Option("--calibration", "-c", metavar="X.npz", help="Samples that show the range of every value.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default="MODEL.hgq")] = None,
    force: _output.Force = False,
) -> None:
    """Turn a trained Keras model into a frozen one: integers only, no Keras, no TensorFlow, ready for every backend."""
    from hgq.ir import file
    from hgq.output import refuse_existing

    target = out or model.with_suffix(".hgq")
    refuse_existing(target, force)  # before the half minute that loading Keras and calibrating take
    _keras.load()
    from hgq.freeze import freeze_file

    graph = freeze_file(model, calibration)
    written = file.save(graph, target, force=force)
    _output.done(f"{len(graph.nodes)} nodes, {len(graph.consts)} constants, digest {graph.digest()[:16]}")
    _output.result(str(written))
