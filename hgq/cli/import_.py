"""`hgq import`: a model of QKeras, HGQ2 or Keras becomes one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _keras, _output


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras, .h5 or .json file of QKeras.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default="MODEL_hgq.keras")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights of a .json.", show_default="MODEL.weights.h5")] = None,
    input_quantizer: Annotated[
        str | None, typer.Option("--input", help="Quantizer of inputs that the model reads as real numbers.", show_default="fixed<16,6>")
    ] = None,
    float_bits: Annotated[
        int | None,
        typer.Option("--float-bits", help="Significant bits for numbers that the original keeps in float32.", show_default="refuse them"),
    ] = None,
    drop_head: Annotated[bool, typer.Option("--drop-head", help="Leave out a softmax or sigmoid at the end.")] = False,
    force: _output.Force = False,
    as_json: _output.AsJson = False,
) -> None:
    """Read a model of QKeras and write one of hgqc that predicts the same numbers. QKeras need not be installed."""
    from hgq.output import refuse_existing

    target = out or model.with_name(f"{model.stem}_hgq.keras")
    refuse_existing(target, force)
    _keras.load()
    from hgq.imports import ImportOptions, import_model
    from hgq.layers import total_ebops

    given = {"input_quantizer": input_quantizer} if input_quantizer else {}
    imported = import_model(model, weights=weights, options=ImportOptions(float_bits=float_bits, drop_head=drop_head, **given))
    imported.model.save(target)
    ebops = round(total_ebops(imported.model))
    if as_json:
        content = {
            "origin": imported.origin,
            "written": target,
            "layers": len(imported.model.layers),
            "ebops": ebops,
            "notes": imported.notes,
        }
        _output.json_result(content)
        return
    for note in imported.notes:
        _output.warning(note)
    _output.done(f"{imported.origin}: {len(imported.model.layers)} layers, {ebops:,} EBOPs")
    _output.result(str(target))
