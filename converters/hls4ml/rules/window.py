"""hls4ml's names for sliding windows."""

from __future__ import annotations

from hgq.ir.graph import Node


def window_attributes(shape: tuple[int, ...], result: tuple[int, ...], taps: tuple[int, ...], node: Node, prefix: str) -> dict[str, int]:
    """hls4ml's names for sizes, strides and padding of one or two axes."""
    attributes: dict[str, int] = {}
    names = ("width",) if len(taps) == 1 else ("height", "width")
    ends = {"width": ("pad_left", "pad_right"), "height": ("pad_top", "pad_bottom")}
    for axis, name in enumerate(names):
        attributes |= {
            f"in_{name}": shape[axis],
            f"out_{name}": result[axis],
            f"{prefix}_{name}": taps[axis],
            f"stride_{name}": node.attrs["strides"][axis],
        }
        attributes |= dict(zip(ends[name], node.attrs["padding"][axis], strict=True))
    return attributes
