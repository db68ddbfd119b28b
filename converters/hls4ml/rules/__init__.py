"""One rule per op: which hls4ml layers it becomes, with the exact type of every value. One file per family of ops.

A rule is a generator under ``@lowers("op")``; `base.py` has what it needs. A new file is listed here, and nowhere else.
"""

from __future__ import annotations

from . import (  # noqa: F401  importing registers
    activation,
    contraction,
    conv,
    dense,
    merge,
    move,
    pool,
    quantize,
    reduce,
    scale,
    table,
)
from .base import RULES

__all__ = ["RULES"]
