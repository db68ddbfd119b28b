"""Rules of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hgq.ir.graph import Node

from .base import Context, Layer, lowers, refused
from .window import window_attributes


@lowers("max_pool")
def _max_pool(context: Context, node: Node) -> Iterator[Layer]:
    x, pool = node.inputs[0], node.attrs["pool"]
    if len(pool) > 2:
        raise refused(node, "hls4ml pools over at most two axes.", "1 or 2", str(len(pool)))
    shape, result = context.shape(x), context.shape(node.name)
    kind = context.type_of(x)
    if any(map(any, node.attrs["padding"])) and kind.startswith("u"):
        raise refused(node, "hls4ml pads unsigned numbers with their greatest.", 'padding="valid", or sizes that need none', "padding")
    attributes: dict[str, Any] = {"n_filt": shape[-1], "data_format": "channels_last"}
    attributes |= window_attributes(shape, result, pool, node, "pool")
    if len(pool) == 1:
        attributes |= {"n_in": shape[0], "n_out": result[0]}
    yield Layer(node.name, f"MaxPooling{len(pool)}D", (x,), {"result": context.type_of(node.name), "accum": kind}, attributes)
