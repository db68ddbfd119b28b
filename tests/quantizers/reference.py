"""The formulas of HGQ's quantizer, written out once more in plain Python, one element at a time."""

from __future__ import annotations

import math

import numpy as np

LN2 = math.log(2.0)


def gradients(x, q, k, i, f, overflow):
    """(dq/dx, dq/di, dq/df) of one element; `q` is its rounded value."""
    x, k, i, f = float(x), int(k), int(i), int(f)
    if overflow in ("WRAP", "WRAP_SM"):
        return 1.0, 0.0, LN2 * (x - float(q))
    e = max(i, -f)
    lsb = math.ldexp(1.0, -f)
    holds_nothing = (i + f <= 0) if overflow == "SAT_SYM" else (k + i + f <= 0)
    high = 0.0 if holds_nothing else math.ldexp(1.0, e) - lsb
    low = 0.0 if holds_nothing else -k * (high if overflow == "SAT_SYM" else math.ldexp(1.0, e))
    if x > high:
        return 0.0, LN2 * math.ldexp(1.0, e), LN2 * lsb
    if x < low:
        return 0.0, -k * LN2 * math.ldexp(1.0, e), -k * LN2 * lsb if overflow == "SAT_SYM" else 0.0
    return 1.0, 0.0, LN2 * (x - float(q))


def elementwise(x, q, k, i, f, overflow):
    """The same for arrays: three arrays of the shape of `x`."""
    k, i, f = (np.broadcast_to(part, np.shape(x)) for part in (k, i, f))
    out = np.array([gradients(*element, overflow) for element in zip(*(np.ravel(part) for part in (x, q, k, i, f)), strict=True)])
    return tuple(out.T.reshape((3, *np.shape(x))))
