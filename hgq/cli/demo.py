"""`hgq demo`: the main job on real data, in minutes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _output


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="The run directory.")] = Path("runs/demo"),
    budgets: Annotated[
        str, typer.Option("--budgets", help="EBOPs of the models, from large to small; the middle one is verified.")
    ] = "20000,5000,1500",
    samples: Annotated[int, typer.Option("--samples", min=0, help="Test samples to verify on; 0: none.")] = 10_000,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs for each budget.", show_default="the built-in recipe's")] = None,
    gradients: Annotated[
        str | None, typer.Option("--gradients", help="How to compute gradients: luq4, hlq, int4, nvfp4 …", show_default="float32")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="Which method owns the training step: metagrad, zigzag …", show_default="Keras' own")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was interrupted.")] = False,
    as_json: _output.AsJson = False,
) -> None:
    """Tag simulated LHC jets: train one network to three budgets, freeze, verify bit by bit in four representations, estimate, report.

    Takes some minutes on two CPU cores and needs no download. A check whose tool is missing is skipped, with a note on how to get it.
    """
    from hgq.cli._run import run
    from hgq.config import Recipe
    from hgq.errors import ConfigError

    try:
        targets = [float(part) for part in budgets.split(",")]
    except ValueError:
        raise ConfigError(
            "Budgets must be numbers.", where="--budgets", expected="such as 20000,5000,1500", received=repr(budgets)
        ) from None
    content = {"name": "jets", "budget": {"ebops": targets}, "verify": {"samples": samples}}
    training = {key: value for key, value in (("epochs", epochs), ("gradients", gradients), ("step", step)) if value is not None}
    if training:
        content["train"] = training
    given = f" --budgets {budgets} --samples {samples}" + "".join(f" --{key} {shlex.quote(str(value))}" for key, value in training.items())
    run(Recipe.from_dict(content, "hgq demo"), out, resume, as_json, lambda directory: f"hgq demo{given} --out {directory} --resume")
