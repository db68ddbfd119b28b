"""`hgq import`: a model of QKeras, HGQ2 or Keras becomes one of ours."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _keras, _output


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras, .h5 or .json file.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default="MODEL_hgq.keras")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights of a .json.", show_default="MODEL.weights.h5")] = None,
    input_quantizer: Annotated[
        str | None, typer.Option("--input", help="Quantizer of inputs that the model reads as real numbers.", show_default="fixed<16,6>")
    ] = None,
    float_bits: Annotated[
        int | None,
        typer.Option("--float-bits", help="Significant bits for numbers that the original keeps in float32.", show_default="refuse them"),
    ] = None,
    bits: Annotated[int, typer.Option("--bits", help="Of a float model's weights and data, to start with.")] = 8,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", "-c", metavar="X.npz", help="Samples, for a float model's ranges.", show_default=False)
    ] = None,
    drop_head: Annotated[bool, typer.Option("--drop-head", help="Leave out a softmax or sigmoid at the end.")] = False,
    force: _output.Force = False,
    as_json: _output.AsJson = False,
) -> None:
    """Read a model of QKeras or HGQ2 and write one of hgqc that predicts the same numbers; or give a float Keras model quantizers.

    Neither need be installed. A float model keeps its weights, and is to be trained for some epochs.
    """
    from hgq.errors import ConfigError, require_file
    from hgq.output import refuse_existing_file, write_file_atomically
    from hgq.samples import NUMPY_FILE

    # all of this before the half minute that loading Keras takes
    target = out or model.with_name(f"{model.stem}_hgq.keras")
    if target.suffix != ".keras":
        raise ConfigError(
            "What is written is a Keras model.",
            where="--out",
            expected="a name that ends in .keras",
            received=str(target),
            fix=f"Name {target.with_suffix('.keras')}, for example.",
        )
    refuse_existing_file(target, force)
    require_file(model, "model", "a .keras, .h5 or .json file")
    if calibration is not None:
        require_file(calibration, "data", NUMPY_FILE)
    _keras.load()
    from hgq.imports import ImportOptions, import_model
    from hgq.layers import total_ebops
    from hgq.samples import load_samples

    options = ImportOptions(float_bits=float_bits, bits=bits, drop_head=drop_head)
    if input_quantizer:
        options = replace(options, input_quantizer=input_quantizer)
    samples = load_samples(calibration) if calibration is not None else None
    imported = import_model(model, weights=weights, options=options, calibration=samples)
    with tempfile.TemporaryDirectory(prefix="hgq-import-") as folder:
        made = Path(folder) / target.name
        imported.model.save(made)
        write_file_atomically(target, made.read_bytes(), force=force)
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
