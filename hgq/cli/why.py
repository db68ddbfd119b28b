"""`hgq why`: where the LUTs of a frozen model go, down to the weight."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgq.cli import _output
from hgq.cli._pipeline import Clock, Part, choose
from hgq.cli.export import parse_options

if TYPE_CHECKING:
    from hgq.estimate.kernels import Kernel
    from hgq.estimate.why import Why


def command(
    model: _output.ModelFile,
    of: Annotated[
        str | None,
        typer.Argument(metavar="[LAYER|LAYER\\[INDEX]]", help="A layer, dense_1; an output of it, dense_1[3]; a weight, dense_1[0,3]."),
    ] = None,
    part: Part = None,
    clock_ns: Clock = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the rtl backend.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show so many, the dearest first.")] = 20,
    what_if: Annotated[
        int, typer.Option("--what-if", min=0, help="Build the layer again without each of so many weights, and say what it saves.")
    ] = 4,
    as_json: _output.AsJson = False,
) -> None:
    """Say where the LUTs of the RTL go: by layer, output and weight, and what pruning or shortening a weight saves."""
    from hgq.estimate.why import Why
    from hgq.ir import file

    graph = file.load(model)
    asked = Why(graph, *choose(graph, "rtl", part, clock_ns, parse_options(option or [])))
    if of is None:
        answer: dict[str, Any] = {**asked.to_dict(), "based_on": list(asked.found.basis)}
    else:
        answer = {**_answer(asked, of, top, what_if), "based_on": list(asked.found.basis)}
    if as_json:
        _output.json_result(answer)
        return
    _show(answer, top)


def _answer(asked: Why, of: str, top: int, what_if: int) -> dict[str, Any]:
    layer, kernel, index = asked.find(of)
    cost = next(row for row in asked.layers() if row.layer == layer)
    answer: dict[str, Any] = {"model": asked.graph.name, "part": asked.found.device.part, "layer": asdict(cost)}
    if index is None:
        answer["nodes"] = [asdict(row) for row in asked.nodes(layer)]
    if kernel is None:
        return answer
    answer["kernel"] = {"node": kernel.node.name, "shape": list(kernel.const.mantissa.shape), "outputs": list(kernel.outputs)}
    if index is None:
        answer["outputs"] = [asdict(row) for row in asked.outputs(kernel)]
        answer["weights"] = _weights(asked, kernel, None, top, what_if)
    elif index in [row.index for row in asked.outputs(kernel)] and len(kernel.outputs) < kernel.const.mantissa.ndim:
        answer["outputs"] = [asdict(row) for row in asked.outputs(kernel) if row.index == index]
        answer["weights"] = _weights(asked, kernel, index, kernel.const.mantissa.size, what_if)
    else:
        one = [row for row in asked.weights(kernel, kernel.output_of(index)) if row.index == index]
        answer["weights"] = [asdict(asked.what_if(kernel, row)) for row in one]
        answer["zero"] = not one
    return answer


def _weights(asked: Why, kernel: Kernel, output: tuple[int, ...] | None, top: int, what_if: int) -> list[dict[str, Any]]:
    rows = asked.weights(kernel, output)[:top]
    return [asdict(asked.what_if(kernel, row) if number < what_if else row) for number, row in enumerate(rows)]


def _show(answer: dict[str, Any], top: int) -> None:
    if "layers" in answer:
        _output.table([_layer(row) for row in answer["layers"]], f"{answer['model']} on {answer['part']}: LUTs by layer")
        return
    layer = answer["layer"]
    cost = f"{layer['lut']:,.0f} LUT, {layer['share']:.1%} of the model, {layer['ebops']:,g} EBOPs"
    _output.result(f"{layer['layer'] or '(model)'} on {answer['part']}: {cost}")
    for key, name, row_of in (("nodes", "Nodes", _node), ("outputs", "Outputs", _output_row), ("weights", "Weights", _weight)):
        rows = answer.get(key)
        if rows:
            more = f" (the {top} dearest of {len(rows)})" if len(rows) > top and key != "nodes" else ""
            _output.table([row_of(row) for row in rows[: top if key != "nodes" else None]], f"{name}{more}")
    if answer.get("zero"):
        _output.result("This weight is 0: it costs nothing.")


def _layer(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "layer": row["layer"] or "(model)",
        "LUT": round(row["lut"]),
        "share": f"{row['share']:.1%}",
        "EBOPs": row["ebops"],
        "weights": f"{row['nonzero']}/{row['weights']} nonzero" if row["weights"] else None,
        "signed digits": row["digits"] or None,
        "LUT a digit": row["lut_per_digit"] and round(row["lut_per_digit"], 2),
        "most of it": ", ".join(
            f"{node['op']} {node['share']:.0%}" for node in sorted(row["nodes"], key=lambda node: -node["lut"])[:3] if node["lut"]
        ),
    }


def _node(row: dict[str, Any]) -> dict[str, Any]:
    return {"node": row["node"], "op": row["op"], "LUT": round(row["lut"], 1), "share": f"{row['share']:.1%}", "EBOPs": row["ebops"]}


def _output_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "output": _index(row["index"]),
        "LUT": round(row["lut"], 1),
        "bias, activation": round(row["lut_behind"], 1),
        "share": f"{row['share']:.1%}",
        "weights": row["nonzero"],
        "signed digits": row["digits"],
        "adders": row["adders"],
        "shared": row["shared"],
        "widest, bits": row["widest"],
        "EBOPs": row["ebops"],
    }


def _weight(row: dict[str, Any]) -> dict[str, Any]:
    shorter = f"{row['shorter_saves']:+.1f} at {row['shorter']:g}" if row["shorter"] is not None else None
    return {
        "weight": _index(row["index"]),
        "value": f"{row['value']:g}",
        "signed digits": row["digits"],
        "data bits": row["data_bits"],
        "uses": row["uses"],
        "EBOPs": row["ebops"],
        "LUT": round(row["lut"], 1),
        "share": f"{row['share']:.2%}",
        "pruned saves": None if row["saves"] is None else round(row["saves"], 1),
        "a digit less saves": shorter,
    }


def _index(index: Any) -> str:
    return f"[{', '.join(map(str, index))}]"
