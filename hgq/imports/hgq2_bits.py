"""The quantizers of HGQ2's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import ConfigError
from hgq.imports.constants import Fitted
from hgq.imports.files import ModelFile
from hgq.imports.network import Entry
from hgq.numerics import Fixed, Overflow, Rounding
from hgq.quantizers import FixedQuantizer

ROUNDINGS: dict[str, Rounding] = {"RND": "RND", "RND_CONV": "RND_CONV", "TRN": "TRN", "S_RND": "RND", "S_RND_CONV": "RND_CONV"}
"""HGQ2's stochastic roundings round to the nearest, in training too."""


@dataclass(frozen=True)
class Bits:
    """One quantizer of a file.

    Args:
        fixed: The format of each element: for data in the shape of the bitwidths without the batch.
        kind: ``"kif"`` or ``"kbi"``.
        rounding: Of inference.
        overflow: Of inference.
    """

    fixed: Fixed
    kind: str
    rounding: Rounding
    overflow: Overflow

    def quantize(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        """Constants as HGQ2 computes with them."""
        fixed = self.fixed.broadcast_to(w.shape)
        return fixed.value(fixed.quantize(w, self.rounding, self.overflow)).astype(np.float32)

    def weight(self, w: NDArray[np.float32], place: str = "weight") -> Fitted:
        """A weight or a bias with these bits."""
        wraps = self.overflow in ("WRAP", "WRAP_SM")
        identifier = f"{'kif' if wraps else self.kind}(rounding={self.rounding}, overflow={'WRAP' if wraps else self.overflow})"
        fixed = self.fixed.broadcast_to(w.shape)
        f = np.clip(fixed.f, -24, 24)  # beyond, there is nothing but 0
        i = np.clip(np.maximum(fixed.i, -f - (fixed.k if self.overflow == "SAT" else 0)), -24, 24)
        return Fitted(self.quantize(w), w, identifier, Fixed(fixed.k, i, f))

    def data(self) -> str:
        """The string for a data quantizer; its bits are set once it is built."""
        shape = self.fixed.shape
        alone = all(size == 1 for size in shape)
        channel = len(shape) > 1 and all(size == 1 for size in shape[:-1])
        granularity = "tensor" if alone else "channel" if channel else "element"
        return f"{self.kind}(rounding={self.rounding}, overflow={self.overflow}, granularity={granularity})"


def read_bits(file: ModelFile, entry: Entry, part: str, config: Mapping[str, Any], data: bool) -> Bits:
    """The quantizer of a layer that its file keeps under `part`.

    Raises:
        ConfigError: one that is no plain fixed-point one.
    """
    where = f"layer {entry.name}, {part}"
    given = config["config"]
    kind, rounding, overflow = given["q_type"], given.get("round_mode"), given.get("overflow_mode")
    unusual = [name for name in ("scaler", "qnoise_factor", "affine") if given.get(name)]
    if kind not in ("kif", "kbi") or rounding not in ROUNDINGS or overflow not in ("WRAP", "SAT", "SAT_SYM") or unusual:
        raise ConfigError(
            "This quantizer of HGQ2 cannot be imported.",
            where=where,
            expected=f"kif or kbi, rounding {', '.join(ROUNDINGS)}, overflow WRAP, SAT or SAT_SYM, no scaler, affine or qnoise_factor",
            received=f"{kind}, {rounding}, {overflow}" + (f", with {', '.join(unusual)}" if unusual else ""),
        )
    # trained variables come first in a file, and WRAP does not train i
    width = "f" if kind == "kif" else "b"
    order = (width, "k", "i") if overflow == "WRAP" else ("i", "f", "k") if kind == "kif" else ("b", "i", "k")
    stored = file.weights(entry, order, part=f"{part}/quantizer".lstrip("/"))
    k, i, last = (np.rint(stored[name]).astype(np.int64) for name in ("k", "i", width))
    f = last if kind == "kif" else last - i
    dead = k + i + f <= 0
    i = np.where(dead, -f - k, np.maximum(i, -f))  # what cannot hold anything holds 0
    shape = k.shape[1:] if data else k.shape
    return Bits(Fixed(*(part.reshape(shape) for part in (k, i, f))), kind, ROUNDINGS[rounding], overflow)


def set_bits(quantizer: Any, bits: Bits | None) -> None:
    """Give a built data quantizer the bits of the file."""
    if bits is None or not isinstance(quantizer, FixedQuantizer):
        return
    k, i, f = bits.fixed.astuple()
    f = np.clip(f, -24, 24)
    nothing = -f if bits.overflow == "SAT_SYM" else -f - k
    quantizer.set_format(Fixed(k, np.clip(np.maximum(i, nothing), -24, 24), f))
