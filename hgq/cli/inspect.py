"""`hgq inspect`: what is in a frozen model."""

from __future__ import annotations

from typing import Annotated

import typer

from hgq.cli import _output


def command(
    model: _output.ModelFile,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="Only the nodes of this layer (or of layers below this path).")] = None,
    as_json: _output.AsJson = False,
) -> None:
    """Show the nodes of a frozen model: op, shape, formats and the layer each came from."""
    from hgq.errors import ConfigError
    from hgq.ir import file, show

    graph = file.load(model)
    nodes = graph.nodes
    rows = show.table(graph)
    if layer is not None:
        sources = sorted({node.source for node in nodes if node.source})
        kept = {node.name for node in nodes if _below(node.source, layer) or _below(node.name, layer)}
        if not kept:
            raise ConfigError("There is no such layer.", where=str(model), expected=", ".join(sources), received=repr(layer))
        rows = [row for row in rows if row.get("name") in kept or _below(str(row.get("source", row.get("layer", ""))), layer)]
    if as_json:
        _output.json_result({"name": graph.name, "digest": graph.digest(), "meta": graph.meta, "nodes": rows})
        return
    _output.result(f"{graph.name}  {graph.digest()[:16]}")
    _output.table(rows)


def _below(path: str, layer: str) -> bool:
    return path == layer or path.startswith(layer + "/")
