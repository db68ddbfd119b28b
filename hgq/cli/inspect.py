"""`hgq inspect`: what is in a frozen model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hgq.cli import _output


def command(
    model: _output.ModelFile,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="Only this layer, and those below its path.")] = None,
    as_json: _output.AsJson = False,
) -> None:
    """Show the ports and nodes of a frozen model: op, shape, formats, constants."""
    from hgq.errors import ConfigError
    from hgq.ir import file, show

    graph = file.load(model)
    rows = show.table(graph)
    if layer is not None:
        layers = list(dict.fromkeys(row["layer"] for row in rows))
        rows = [row for row in rows if row["layer"] == layer or row["layer"].startswith(layer + "/")]
        if not rows:
            raise ConfigError("There is no such layer.", where=str(model), expected=", ".join(layers), received=repr(layer))
    if as_json:
        _output.json_result({"name": graph.name, "digest": graph.digest(), "meta": graph.meta, "rows": rows})
        return
    _output.table([_short(row) for row in rows], f"{graph.name}  {graph.digest()[:16]}")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """What fits a terminal; the rest is in the JSON."""
    return {
        "name": row["name"] + (" →" if row["output"] else ""),
        "op": row["op"],
        "shape": row["shape"],
        "format": row["format"],
        "bits, mean": row["bits_mean"],
        "max": row["bits_max"],
        "dead": row["dead"],
        "modes": " ".join(filter(None, (row["rounding"], row["overflow"]))) or None,
        "constants": f"{row['constants_nonzero']}/{row['constants_total']} nonzero" if row["constants_total"] else None,
    }
