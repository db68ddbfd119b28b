"""Sliding windows: hls4ml's names for them, and padding in streams."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from hgq.ir.windows import Padding

from .base import PREVIOUS, Context, Layer

NAMES = {1: ("width",), 2: ("height", "width")}
ENDS = {"width": ("pad_left", "pad_right"), "height": ("pad_top", "pad_bottom")}


def window_attributes(
    shape: tuple[int, ...], result: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], padding: Padding, prefix: str
) -> dict[str, int]:
    """hls4ml's names for sizes, strides and padding of one or two axes."""
    attributes: dict[str, int] = {}
    for axis, name in enumerate(NAMES[len(taps)]):
        attributes |= {
            f"in_{name}": shape[axis],
            f"out_{name}": result[axis],
            f"{prefix}_{name}": taps[axis],
            f"stride_{name}": strides[axis],
        }
        attributes |= dict(zip(ENDS[name], padding[axis], strict=True))
    return attributes


def padded_stream(
    context: Context, x: str, padding: Padding, source: str | None = None, kind: str | None = None
) -> Generator[Layer, None, tuple[tuple[int, ...], Padding, str]]:
    """Zeros around an image that is a stream: layers that use windows see no padding there.

    Args:
        context: The rules' context.
        x: The image.
        padding: Before and after each axis.
        source: Where the image, or what became of it, is read; None for itself.
        kind: Its hls4ml type; None for that of `x`.

    Returns:
        What the windows then read: its shape, its padding, its name.
    """
    layer = stream_padding(context, None, x, padding, source, kind)
    yield layer
    sizes = tuple(layer.attributes[f"out_{name}"] for name in NAMES[len(padding)])
    return (*sizes, context.shape(x)[-1]), ((0, 0),) * len(padding), PREVIOUS


def stream_padding(
    context: Context, value: str | None, x: str, padding: Padding, source: str | None = None, kind: str | None = None
) -> Layer:
    """Zeros around an image of one or two axes and channels; arguments as for `padded_stream`."""
    *sizes, channels = context.shape(x)
    attributes: dict[str, Any] = {"n_chan": channels, "data_format": "channels_last"}
    for size, sides, name in zip(sizes, padding, NAMES[len(sizes)], strict=True):
        attributes |= {f"in_{name}": size, f"out_{name}": size + sum(sides), **dict(zip(ENDS[name], sides, strict=True))}
    return Layer(value, f"ZeroPadding{len(sizes)}D", (source or x,), {"result": kind or context.type_of(x)}, attributes)
