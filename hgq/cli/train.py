"""`hgq train`: a recipe becomes a run directory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _output


def command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to do; see examples/recipes.", show_default=False)],
    ebops: Annotated[
        list[float] | None, typer.Option("--ebops", help="Budget in EBOPs; repeatable, from large to small.", show_default="the recipe's")
    ] = None,
    lut: Annotated[
        list[float] | None,
        typer.Option("--lut", help="Budget in LUTs of the RTL on the recipe's part, instead.", show_default="the recipe's"),
    ] = None,
    latency_ns: Annotated[
        float | None,
        typer.Option("--latency-ns", help="Most nanoseconds from input to output of the RTL, besides.", show_default="the recipe's"),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The .npz file to learn from.", show_default="the recipe's")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs for each budget.", show_default="the recipe's")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything random.", show_default="the recipe's")] = None,
    gradients: Annotated[
        str | None, typer.Option("--gradients", help="How to compute gradients: luq4, hlq, int4, nvfp4 …", show_default="the recipe's")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help='What owns the training step: metagrad, "zigzag(a=0.6)" …', show_default="the recipe's")
    ] = None,
    finetune: Annotated[
        int | None, typer.Option("--finetune", help="Epochs of exact gradients at the end of each budget.", show_default="the recipe's")
    ] = None,
    devices: Annotated[
        str | None, typer.Option("--devices", help='How many GPUs share each batch, or "all".', show_default="the recipe's")
    ] = None,
    gradient_health: Annotated[
        bool, typer.Option("--gradient-health", help="Measure what --gradients does to each layer, and report it.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Test samples to verify on; 0: none.", show_default="the recipe's")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run directory.", show_default="runs/NAME")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there, bit-identically.")] = False,
    as_json: _output.AsJson = False,
) -> None:
    """Train a recipe to its budget; then freeze, estimate, verify and report. Ctrl-C leaves a run that --resume continues.

    Exit code 1 if a budget is missed or two representations of the model differ.
    """
    from hgq.cli._run import run
    from hgq.config import Recipe

    asked = Recipe.from_toml(recipe)
    changes: dict[str, dict] = {}
    if data is not None:
        changes["data"] = {"path": str(data), "name": None}
    if ebops or lut:
        changes["budget"] = {"ebops": ebops or [], "lut": lut or []}
    if latency_ns is not None:
        changes["export"] = {"latency_ns": latency_ns}
    if epochs is not None:
        changes.setdefault("train", {})["epochs"] = epochs
    if seed is not None:
        changes.setdefault("train", {})["seed"] = seed
    if gradients is not None:
        changes.setdefault("train", {})["gradients"] = gradients
    if step is not None:
        changes.setdefault("train", {})["step"] = step
    if finetune is not None:
        changes.setdefault("train", {})["finetune"] = finetune
    if devices is not None:
        changes.setdefault("train", {})["devices"] = int(devices) if devices.isdigit() else devices
    if gradient_health:
        changes.setdefault("train", {})["gradient_health"] = True
    if samples is not None:
        changes["verify"] = {"samples": samples}
    asked = asked.changed(**changes) if changes else asked
    target = out or Path("runs") / asked.name
    options = "".join(f" --{name} {value:g}" for name, values in (("ebops", ebops), ("lut", lut)) for value in values or [])
    options += "".join(
        f" --{name} {shlex.quote(str(value))}"
        for name, value in (
            ("latency-ns", latency_ns),
            ("data", data),
            ("epochs", epochs),
            ("seed", seed),
            ("gradients", gradients),
            ("step", step),
            ("finetune", finetune),
            ("devices", devices),
            ("samples", samples),
        )
        if value is not None
    )
    options += " --gradient-health" if gradient_health else ""
    begin = f"hgq train {shlex.quote(str(recipe))}{options}"
    run(asked, target, resume, as_json, lambda directory: f"{begin} --out {shlex.quote(str(directory))} --resume")
