"""Fixed-point numbers: THE definition of the number format, of rounding and of overflow.

A value of format ``Fixed(k, i, f)`` is an integer mantissa ``m`` that stands for ``m * 2**-f``. ``k`` is 1 when there is a sign bit, ``i``
counts the integer bits *without* the sign, ``f`` the fractional bits; ``i`` and ``f`` may be negative. The width is ``k + i + f``; an
element whose width is zero or less can only hold 0. This is the ``ap_fixed<k+i+f, k+i>`` of AMD's HLS headers, and so are the modes, with
rounding before overflow as AMD's manual says (UG1399), but for these:

- ``SAT_SYM`` leaves a signed element of one bit nothing but 0; AMD's headers give it -1.
- ``WRAP_SM`` of an unsigned element reflects at both ends; AMD's headers refuse it.
- ``WRAP_SM`` looks at the bit above those kept *after* rounding; AMD's headers look before, and so differ from ours (and from their manual)
  where rounding carries into that bit. Rounding in a step of its own makes both the same.
- ``S_RND`` does not exist there.

Training, the golden model and every converter are tested against the functions in this file, and only this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgq.errors import ConfigError, DataError, Int64Overflow

Rounding = Literal["TRN", "RND", "RND_CONV", "S_RND"]
Overflow = Literal["WRAP", "SAT", "SAT_SYM", "WRAP_SM"]

ROUNDINGS: tuple[Rounding, ...] = ("TRN", "RND", "RND_CONV", "S_RND")
OVERFLOWS: tuple[Overflow, ...] = ("WRAP", "SAT", "SAT_SYM", "WRAP_SM")

MAX_WIDTH = 62
"""Widest element, in bits: two such mantissas can still be added in an int64."""

Ints = NDArray[np.int64]


def check_modes(rounding: str, overflow: str, where: str | None = None) -> None:
    """Raise `ConfigError` unless both names are known."""
    for what, name, known in (("rounding", rounding, ROUNDINGS), ("overflow", overflow, OVERFLOWS)):
        if name not in known:
            raise ConfigError(f"Unknown {what} mode.", where=where, expected=", ".join(known), received=repr(name))


@dataclass(frozen=True, eq=False)
class Fixed:
    """Per-element fixed-point formats of an array.

    Args:
        k: Sign bits, 0 or 1.
        i: Integer bits without the sign, may be negative.
        f: Fractional bits, may be negative.

    The three are broadcast to one common shape; `broadcast_to` gives that of the data.

    Raises:
        ConfigError: a sign that is neither 0 nor 1, or an element wider than `MAX_WIDTH`.
    """

    k: Ints
    i: Ints
    f: Ints

    def __init__(self, k: ArrayLike, i: ArrayLike, f: ArrayLike) -> None:
        parts = [np.asarray(part, np.int64) for part in (k, i, f)]
        if not parts[0].shape == parts[1].shape == parts[2].shape:
            parts = np.broadcast_arrays(*parts)
        for name, part in zip("kif", parts, strict=True):
            frozen = part.copy()
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)
        if (self.k & ~1).any():
            raise ConfigError("A sign is one bit or none.", expected="k of 0 or 1", received=f"k of {np.unique(self.k)}")
        if (self.k + self.i + self.f).max(initial=0) > MAX_WIDTH:
            widest = int((self.k + self.i + self.f).max())
            raise ConfigError("A format is too wide.", expected=f"at most {MAX_WIDTH} bits", received=f"{widest} bits")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of formats."""
        return self.k.shape

    @property
    def width(self) -> Ints:
        """Bits of each element, sign included; never negative."""
        return np.maximum(self.k + self.i + self.f, 0)

    @property
    def low(self) -> Ints:
        """Smallest mantissa."""
        return np.where(self.width > 0, -self.k << np.maximum(self.i + self.f, 0), 0)

    @property
    def high(self) -> Ints:
        """Largest mantissa."""
        return np.where(self.width > 0, (np.int64(1) << np.maximum(self.i + self.f, 0)) - 1, 0)

    def canonical(self) -> Fixed:
        """The same set of values, with (0, 0, 0) wherever nothing but 0 can be held."""
        alive = self.width > 0
        return Fixed(*(np.where(alive, part, 0) for part in (self.k, self.i, self.f)))

    def broadcast_to(self, shape: tuple[int, ...]) -> Fixed:
        """The same formats, repeated to `shape` by NumPy's rules."""
        return Fixed(*(np.broadcast_to(part, shape) for part in (self.k, self.i, self.f)))

    def __getitem__(self, index) -> Fixed:
        return Fixed(self.k[index], self.i[index], self.f[index])

    def reshape(self, shape: tuple[int, ...]) -> Fixed:
        """The same formats in another shape."""
        return Fixed(*(part.reshape(shape) for part in (self.k, self.i, self.f)))

    def equals(self, other: Fixed) -> bool:
        """Whether all formats, and their shape, are the same."""
        return all(np.array_equal(a, b) for a, b in zip(self.astuple(), other.astuple(), strict=True))

    def astuple(self) -> tuple[Ints, Ints, Ints]:
        """``(k, i, f)``."""
        return self.k, self.i, self.f

    def value(self, mantissa: ArrayLike) -> NDArray[np.float64]:
        """The real numbers that these mantissas stand for."""
        return np.ldexp(np.asarray(mantissa, np.float64), -self.f)

    def quantize(
        self,
        x: ArrayLike,
        rounding: Rounding = "RND",
        overflow: Overflow = "WRAP",
        rng: np.random.Generator | None = None,
    ) -> Ints:
        """Mantissas of real numbers `x`, shape as broadcast with the format.

        Args:
            x: Real numbers; float64 arithmetic on them is exact here for every format.
            rounding: One of `ROUNDINGS`.
            overflow: One of `OVERFLOWS`.
            rng: Source of the random bits of ``S_RND``; required there.

        Raises:
            DataError: `x` has NaN or infinity.
        """
        check_modes(rounding, overflow)
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            bad = int(np.count_nonzero(~np.isfinite(x)))
            raise DataError("Cannot quantize NaN or infinity.", expected="finite numbers", received=f"{bad} of {x.size} are not")
        if overflow in ("SAT", "SAT_SYM"):  # far beyond both ends nothing changes, and numbers stay small
            x = np.clip(x, 2 * self.value(self.low) - self.value(1), 2 * self.value(self.high) + self.value(1))
        return self.overflowed(_round_real(_scaled(x, self.f), rounding, rng), overflow)

    def requantize(
        self,
        mantissa: Ints,
        f: ArrayLike,
        rounding: Rounding = "RND",
        overflow: Overflow = "WRAP",
        rng: np.random.Generator | None = None,
    ) -> Ints:
        """Mantissas, in this format, of the numbers ``mantissa * 2**-f``. Integer arithmetic only.

        Raises:
            Int64Overflow: a left shift would leave 64 bits.
        """
        check_modes(rounding, overflow)
        return self.overflowed(rescale(mantissa, f, self.f, rounding, rng), overflow)

    def overflowed(self, u: NDArray, overflow: Overflow) -> Ints:
        """Bring rounded mantissas `u` (int64, or float64 holding integers) into range."""
        low, high = self.low, self.high
        if u.dtype.kind == "f":
            u = _as_int64(u, clip=overflow in ("SAT", "SAT_SYM"))
        if overflow == "SAT":
            m = np.clip(u, low, high)
        elif overflow == "SAT_SYM":
            m = np.clip(u, np.where(self.k == 1, -high, 0), high)
        else:
            bits = np.where(self.width > 0, self.width, 0)
            kept = u & ((np.int64(1) << bits) - 1)
            m = np.where(kept > high, kept - (np.int64(1) << bits), kept)  # two's complement of the low bits
            if overflow == "WRAP_SM":  # reflect at both ends: the bit above those kept becomes the sign, and if that changes it inverts all
                above = (u >> bits) & 1
                m = np.where(self.k == 1, np.where((m < 0) == (above == 1), m, ~m), np.where(above == 1, high - m, m))
        return np.where(self.width > 0, m, 0).astype(np.int64)

    @staticmethod
    def spanning(low: ArrayLike, high: ArrayLike, f: ArrayLike) -> Fixed:
        """Narrowest formats with these fractional bits that hold every mantissa from `low` to `high`."""
        low, high, f = (np.asarray(part, np.int64) for part in (low, high, f))
        bits = np.maximum(bit_length(high), bit_length(-low - 1))
        return Fixed((low < 0).astype(np.int64), bits - f, f).canonical()

    @staticmethod
    def minimal(mantissa: ArrayLike, f: ArrayLike) -> Fixed:
        """Narrowest format of each constant ``mantissa * 2**-f``: from its leading to its trailing significant bit, sign included.

        The widths of this format are the *effective bits* that EBOPs charges for a constant (HGQ, arXiv:2405.00645, section on exact
        BOPs): 0.5 costs one bit whatever width was declared for it, and 0 costs nothing.
        """
        m = np.asarray(mantissa, np.int64)
        zeros = trailing_zeros(m)
        return Fixed.spanning(m >> zeros, m >> zeros, np.asarray(f, np.int64) - zeros)


def bit_length(n: ArrayLike) -> Ints:
    """``int.bit_length`` of every non-negative element; 0 for negative ones."""
    n = np.maximum(np.asarray(n, np.int64), 0)
    if n.max(initial=0) < 1 << 53:  # nearly always: all of it is exact in float64
        return np.frexp(n.astype(np.float64))[1].astype(np.int64)
    high, low = n >> 31, n & ((1 << 31) - 1)  # each half is exact in float64
    return np.where(high > 0, np.frexp(high.astype(np.float64))[1] + 31, np.frexp(low.astype(np.float64))[1]).astype(np.int64)


def trailing_zeros(n: ArrayLike) -> Ints:
    """Trailing zero bits of every element; 0 for 0."""
    n = np.asarray(n, np.int64)
    return np.maximum(np.frexp((n & -n).astype(np.float64))[1].astype(np.int64) - 1, 0)  # a power of two is exact in float64


def shift_left(m: Ints, bits: ArrayLike, where: str) -> Ints:
    """``m << bits``, refused where it would leave 62 bits.

    Raises:
        Int64Overflow: it would.
    """
    bits = np.asarray(bits, np.int64)
    if bits.ndim == 0 and bits == 0:
        return m
    largest = max(int(m.max(initial=0)), -int(m.min(initial=0)))
    if largest.bit_length() + int(bits.max(initial=0)) <= MAX_WIDTH:  # nearly always, and found out far faster than element by element
        return m << bits
    need = np.where(m == 0, 0, bit_length(np.abs(m)) + bits).max(initial=0)
    if need > MAX_WIDTH:
        raise Int64Overflow(
            "A value does not fit the golden model's 64-bit integers.",
            where=where,
            expected=f"at most {MAX_WIDTH} bits",
            received=f"{int(need)} bits",
            fix="Bound the bitwidths of this layer or of the one before (constraint on i and f), or add a quantizer between them.",
        )
    return m << np.minimum(bits, MAX_WIDTH)


def rescale(mantissa: ArrayLike, f: ArrayLike, to_f: ArrayLike, rounding: Rounding, rng: np.random.Generator | None = None) -> Ints:
    """Mantissas with `to_f` fractional bits of the numbers ``mantissa * 2**-f``: rounded, never overflowed.

    Raises:
        Int64Overflow: a left shift would leave 64 bits.
    """
    drop = np.asarray(f, np.int64) - np.asarray(to_f, np.int64)
    right, left = np.clip(drop, 0, MAX_WIDTH), np.maximum(-drop, 0)
    m, beyond = np.asarray(mantissa, np.int64), np.clip(drop - MAX_WIDTH, 0, MAX_WIDTH)
    if beyond.any():  # shift the excess out first; one sticky bit keeps ties apart from what is next to them
        m = (m >> beyond) | ((m & ((np.int64(1) << beyond) - 1)) != 0)
    return shift_left(_round_shift(m, right, rounding, rng), left, "quantize")


def _scaled(x: NDArray[np.float64], f: Ints) -> NDArray[np.float64]:
    """``x * 2**f``, exact but for what no format can tell apart.

    What is too large for float64 is a multiple of ``2**971`` and so wraps to 0 (saturating modes have clipped it before); what is too small
    stays nonzero, for it still rounds down.
    """
    with np.errstate(over="ignore", under="ignore"):
        u = np.ldexp(x, f)
    u = np.where(np.isfinite(u), u, 0.0)
    return np.where((u == 0) & (x != 0), np.copysign(np.finfo(np.float64).smallest_subnormal, x), u)


def _as_int64(u: NDArray[np.float64], clip: bool) -> Ints:
    """Integers in float64 as int64: equal, or clipped to 63 bits, or equal modulo ``2**63``, which all formats wrap at.

    Float64 itself would not do: beyond 53 bits neither the ends of a format nor remainders are exact in it.
    """
    if clip:
        return np.clip(u, -(2.0**62), 2.0**62).astype(np.int64)
    return np.fmod(u, 2.0**63).astype(np.int64)


def _round_real(u: NDArray[np.float64], rounding: Rounding, rng: np.random.Generator | None) -> NDArray[np.float64]:
    """Round to integers. ``floor(u + .5)`` would be wrong for the number just below one half, hence the comparison."""
    whole = np.floor(u)
    rest = u - whole
    if rounding == "TRN":
        return whole
    if rounding == "RND":
        return whole + (rest >= 0.5)
    if rounding == "RND_CONV":
        return np.rint(u)
    return whole + (rest > _generator(rng).random(u.shape))


def _round_shift(m: Ints, drop: Ints, rounding: Rounding, rng: np.random.Generator | None) -> Ints:
    """``m / 2**drop`` rounded to an integer, with shifts alone."""
    whole, rest = m >> drop, m & ((np.int64(1) << drop) - 1)
    if rounding == "TRN":
        return whole
    half = np.where(drop > 0, np.int64(1) << np.maximum(drop - 1, 0), 1)
    if rounding == "RND":
        return whole + (rest >= half)
    if rounding == "RND_CONV":
        return whole + ((rest > half) | ((rest == half) & (whole & 1 == 1) & (drop > 0)))
    return whole + (rest > _generator(rng).integers(0, np.int64(1) << drop, rest.shape))


def _generator(rng: np.random.Generator | None) -> np.random.Generator:
    if rng is None:
        raise ConfigError(
            "Stochastic rounding needs a source of random bits.",
            expected="rng=numpy.random.Generator",
            received="None",
            fix="Pass rng=np.random.default_rng(seed). A frozen graph never rounds stochastically: freeze turns S_RND into RND.",
        )
    return rng
