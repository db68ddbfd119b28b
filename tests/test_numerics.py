"""`hgq.numerics` against two independent sources: exact rational arithmetic in Python, and AMD's ap_fixed as hls4ml ships it."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hgq.errors import ConfigError, DataError, Int64Overflow
from hgq.numerics import MAX_WIDTH, OVERFLOWS, ROUNDINGS, Fixed, bit_length, check_modes, rescale, shift_left, trailing_zeros

DETERMINISTIC = [mode for mode in ROUNDINGS if mode != "S_RND"]

# The oracle: Python's fractions and integers of any size. -------------------------------------------------------------------------------


def rounded(v: Fraction, rounding: str) -> int:
    if rounding == "TRN":
        return math.floor(v)
    if rounding == "RND":
        return math.floor(v + Fraction(1, 2))
    return round(v)  # Python rounds fractions half to even


def overflowed(u: int, k: int, bits: int, overflow: str) -> int:
    """`bits` = width, sign included."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if k else (0, (1 << bits) - 1)
    if overflow == "SAT":
        return min(max(u, low), high)
    if overflow == "SAT_SYM":
        return min(max(u, -high if k else 0), high)
    if overflow == "WRAP":
        return (u - low) % (1 << bits) + low
    # WRAP_SM: a triangle wave, walked step by step in thought: up to `high`, stay one step, down to `low`, stay one step, ...
    period = 2 << bits
    phase = (u - low) % period
    return low + (phase if phase < period // 2 else period - 1 - phase)


def oracle(v: Fraction, k: int, i: int, f: int, rounding: str, overflow: str) -> int:
    if k + i + f <= 0:
        return 0
    return overflowed(rounded(v * Fraction(2) ** f, rounding), k, k + i + f, overflow)


@st.composite
def formats(draw, widest: int = MAX_WIDTH, reach: int = 70) -> tuple[int, int, int]:
    k, width = draw(st.integers(0, 1)), draw(st.integers(-3, widest))
    f = draw(st.integers(-reach, reach))
    return k, width - k - f, f


def near(draw_format: tuple[int, int, int], draw) -> float:
    """A float that matters to a format: near a tie, near an end, or anything."""
    _, i, f = draw_format
    kind = draw(st.sampled_from(["grid", "end", "any"]))
    if kind == "any":
        return draw(st.floats(-1e308, 1e308))
    base = Fraction(2) ** i * draw(st.integers(-4, 4)) if kind == "end" else Fraction(0)
    try:
        value = float(base + Fraction(draw(st.integers(-64, 64)), 8) * Fraction(2) ** -f)
    except OverflowError:
        return 0.0
    return draw(st.sampled_from([value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)]))


@settings(max_examples=800, deadline=None)
@given(st.data(), formats(), st.sampled_from(DETERMINISTIC), st.sampled_from(OVERFLOWS))
def test_quantize_agrees_with_fractions(data, kif, rounding, overflow):
    x = near(kif, data.draw)
    assert int(Fixed(*kif).quantize(x, rounding, overflow)) == oracle(Fraction(x), *kif, rounding, overflow)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize(
    ("x", "kif"),
    [
        (-1.0, (1, 61, 0)),  # 62 bits: neither the ends nor remainders fit a float64
        (2.0**61, (1, 61, 0)),
        (2.0**61 - 256, (1, 61, 0)),
        (-(2.0**62), (1, 61, 0)),
        (2.0**62 + 2048, (0, 62, 0)),
        (1e308, (1, 3, 30)),  # x * 2**f is beyond float64
        (-5e-324, (1, 60, -20)),  # x * 2**f is below it
        (0.49999999999999994, (1, 3, 0)),
        (-0.49999999999999994, (1, 3, 0)),
        (0.5, (1, 0, 0)),
        (-0.5, (1, 0, 0)),
        (-1.5, (1, 0, 0)),
        (7.0, (0, 0, 0)),
        (7.0, (1, -1, 0)),
        (3.0, (1, 5, -9)),
        (2.0**52 + 0.5, (1, 60, 1)),
    ],
)
def test_quantize_at_the_limits(x, kif, rounding, overflow):
    assert int(Fixed(*kif).quantize(x, rounding, overflow)) == oracle(Fraction(x), *kif, rounding, overflow)


@settings(max_examples=800, deadline=None)
@given(
    st.integers(-(2**61), 2**61 - 1) | st.integers(-40, 40),
    st.integers(-130, 130),
    formats(),
    st.sampled_from(DETERMINISTIC),
    st.sampled_from(OVERFLOWS),
)
@example(2**61, 70, (1, 3, 0), "RND", "WRAP")  # more bits dropped than there are
@example(-(2**61) - 1, 70, (1, 3, 0), "RND", "WRAP")
@example(-1, 200, (1, 3, 0), "TRN", "WRAP")
def test_requantize_agrees_with_fractions(mantissa, f, kif, rounding, overflow):
    fixed = Fixed(*kif)
    try:
        got = int(fixed.requantize(np.int64(mantissa), f, rounding, overflow))
    except Int64Overflow:
        assert kif[2] > f and mantissa.bit_length() + kif[2] - f > MAX_WIDTH
        return
    assert got == oracle(Fraction(mantissa) / Fraction(2) ** f, *kif, rounding, overflow)


@given(st.integers(-(2**63), 2**63 - 1), formats(), st.sampled_from(OVERFLOWS))
def test_overflow_of_any_int64(u, kif, overflow):
    width = sum(kif)
    expected = overflowed(u, kif[0], width, overflow) if width > 0 else 0
    assert int(Fixed(*kif).overflowed(np.array(u, np.int64), overflow)) == expected


@given(st.lists(formats(widest=20, reach=20), min_size=1, max_size=6), st.integers(-(2**24), 2**24), st.sampled_from(OVERFLOWS))
def test_each_element_has_its_own_format(kifs, numerator, overflow):
    x = Fraction(numerator, 2**10)
    got = Fixed(*np.array(kifs).T).quantize(float(x), "RND_CONV", overflow)
    assert got.tolist() == [oracle(x, *kif, "RND_CONV", overflow) for kif in kifs]


def test_samples_broadcast_against_formats():
    x = np.linspace(-4, 4, 30).reshape(10, 3)
    fixed = Fixed(1, [0, 1, 2], [3, 2, 1])
    columns = [fixed[j].quantize(x[:, j], "RND", "SAT") for j in range(3)]
    np.testing.assert_array_equal(fixed.quantize(x, "RND", "SAT"), np.stack(columns, 1))


@given(formats(widest=50, reach=40), st.data())
def test_values_of_a_format_are_fixed_points(kif, data):
    fixed = Fixed(*kif)
    m = data.draw(st.integers(int(fixed.low), int(fixed.high)))
    for rounding, overflow in itertools.product(DETERMINISTIC, ("WRAP", "SAT", "WRAP_SM")):
        assert int(fixed.quantize(fixed.value(np.int64(m)), rounding, overflow)) == m
        assert int(fixed.requantize(np.int64(m), kif[2], rounding, overflow)) == m


@given(formats())
def test_width_low_and_high(kif):
    k, i, f = kif
    fixed, width = Fixed(*kif), max(k + i + f, 0)
    assert int(fixed.width) == width
    assert int(fixed.low) == (-(1 << (width - 1)) if k and width else 0)
    assert int(fixed.high) == ((1 << (width - k)) - 1 if width else 0)
    canonical = fixed.canonical()
    assert (int(canonical.low), int(canonical.high)) == (int(fixed.low), int(fixed.high))
    assert width or all(int(part) == 0 for part in canonical.astuple())


# Stochastic rounding. -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.3, -0.3, 1.0 / 1024, -1.0 / 1024, 2.7, -2.5, 0.5])
@pytest.mark.parametrize("f", [0, -3, 4])
def test_stochastic_rounding_is_unbiased(x, f):
    n, x = 100_000, x * 2.0**-f
    below = math.floor(x * 2.0**f)
    rest = x * 2.0**f - below
    sigma = math.sqrt(rest * (1 - rest) / n)
    for seed, m in enumerate(
        (
            Fixed(1, 10, f).quantize(np.full(n, x), "S_RND", "SAT", np.random.default_rng(0)),
            rescale(np.full(n, round(x * 2.0 ** (f + 20))), f + 20, f, "S_RND", np.random.default_rng(1)),
        )
    ):
        assert set(np.unique(m).tolist()) <= {below, below + 1}, seed
        assert abs(m.mean() - below - rest) < 5 * sigma + 2**-20, seed


@given(formats(widest=30, reach=30), st.data())
def test_stochastic_rounding_leaves_the_grid_alone(kif, data):
    fixed = Fixed(*kif)
    m = data.draw(st.integers(int(fixed.low), int(fixed.high)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    assert int(fixed.quantize(fixed.value(np.int64(m)), "S_RND", "WRAP", rng)) == m
    assert int(fixed.requantize(np.int64(m) << 20, kif[2] + 20, "S_RND", "WRAP", rng)) == m


def test_stochastic_rounding_is_seeded():
    fixed, x = Fixed(1, 3, 2), np.linspace(-3, 3, 1000)
    first, second, other = (fixed.quantize(x, "S_RND", "SAT", np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


# AMD's own headers. ---------------------------------------------------------------------------------------------------------------------

AP_MODES = {"TRN": "AP_TRN", "RND": "AP_RND", "RND_CONV": "AP_RND_CONV"}
AP_TARGETS = [(1, 1), (1, 0), (1, 3), (2, 0), (3, 1), (3, -1), (4, 6), (5, 2), (6, 6)]
"""(width, integer bits with the sign) of each target."""

PROGRAM = """
#include <cstdio>
#include "ap_fixed.h"
typedef ap_fixed<11, 5> source_t;
template <class T, class via> void all() {
    for (int m = -1024; m < 1024; m++) {
        source_t x; x.V = m;
        T y = (via)x;                  // from another fixed-point number, as a layer does
        T z = (via)((double)m / 64);   // from a double, as a test bench does
        std::printf("%d %d ", (int)y.V, (int)z.V);
    }
    std::printf("\\n");
}
int main() {
CALLS}
"""


@pytest.fixture(scope="module")
def ap_fixed(tmp_path_factory) -> dict[tuple[int, int, int, str, str], np.ndarray]:
    """(k, W, I, rounding, overflow) -> (2048, 2) mantissas of m / 64 for m from -1024, from a fixed-point number and from a double."""
    pytest.importorskip("hls4ml", reason="the ap_fixed headers come with hls4ml")
    from importlib.util import find_spec

    spec = find_spec("hls4ml")
    assert spec is not None and spec.origin is not None
    headers = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    if shutil.which("g++") is None or not headers.is_dir():
        pytest.skip("g++ or the ap_fixed headers are absent")
    keys, calls = [], []
    for (w, i), rounding, overflow, k in itertools.product(AP_TARGETS, DETERMINISTIC, OVERFLOWS, (0, 1)):
        if k == 0 and overflow == "WRAP_SM":
            continue  # AMD's headers end the program there: no such thing. Ours reflects
        if k == 1 and w == 1 and overflow == "SAT_SYM":
            continue  # symmetric about 0 leaves one signed bit nothing but 0; AMD's headers give it -1
        keys.append((k, w, i, rounding, overflow))
        target = f"ap_{'' if k else 'u'}fixed<{w}, {i}, {AP_MODES[rounding]}, AP_{overflow}>"
        # WRAP_SM looks at the bit above those kept. AMD's headers look at it before the rounding's carry has reached it, against their own
        # manual (UG1399: quantization first, then overflow), so there we round in a step of its own.
        via = f"ap_fixed<{w + 20}, {i + 20}, {AP_MODES[rounding]}, AP_WRAP>" if overflow == "WRAP_SM" else target
        calls.append(f"    all<{target}, {via} >();\n")
    folder = tmp_path_factory.mktemp("ap_fixed")
    (folder / "oracle.cpp").write_text(PROGRAM.replace("CALLS", "".join(calls)))
    subprocess.run(["g++", "-O0", "-w", "-std=c++14", f"-I{headers}", "-o", "oracle", "oracle.cpp"], cwd=folder, check=True)
    lines = subprocess.run(["./oracle"], cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()
    return {key: np.array(line.split(), np.int64).reshape(-1, 2) for key, line in zip(keys, lines, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_agrees_with_ap_fixed(ap_fixed, rounding, overflow):
    m = np.arange(-1024, 1024)
    for (k, w, i, r, o), theirs in ap_fixed.items():
        if (r, o) != (rounding, overflow):
            continue
        fixed = Fixed(k, i - k, w - i)
        np.testing.assert_array_equal(fixed.requantize(m, 6, rounding, overflow), theirs[:, 0], f"{k, w, i} from ap_fixed")
        np.testing.assert_array_equal(fixed.quantize(m / 64, rounding, overflow), theirs[:, 1], f"{k, w, i} from double")


# Narrowest formats, bit tricks, refusals. -----------------------------------------------------------------------------------------------


@given(st.integers(-(2**61), 2**61 - 1), st.integers(-40, 40))
def test_minimal_is_the_narrowest_format(m, f):
    fixed = Fixed.minimal(m, f)
    if m == 0:
        assert int(fixed.width) == 0
        return
    bits = m
    while bits % 2 == 0:
        bits //= 2
    k = int(m < 0)
    assert int(fixed.k) == k
    assert int(fixed.width) == k + (bits.bit_length() if m > 0 else (-bits - 1).bit_length())
    assert int(fixed.requantize(np.int64(m), f)) * Fraction(2) ** -int(fixed.f) == m * Fraction(2) ** -f


def test_effective_bits_of_simple_constants():
    assert Fixed.minimal([0, 1, 2, 3, -1, -2, -3, 5, 8], 3).width.tolist() == [0, 1, 1, 2, 1, 1, 3, 3, 1]


@given(st.integers(-(2**60), 2**60), st.integers(0, 2**60), st.integers(-10, 10))
def test_spanning_holds_both_ends_and_no_bit_more(low, extent, f):
    high = min(low + extent, 2**60)
    fixed = Fixed.spanning(low, high, f)
    assert int(fixed.low) <= low and high <= int(fixed.high)
    assert int(fixed.k) == int(low < 0)
    width = int(fixed.width)
    if width > 0:
        half_low, half_high = (-(1 << width) // 4, (1 << width) // 4 - 1) if low < 0 and width > 1 else (0, (1 << (width - 1)) - 1)
        assert not (half_low <= low and high <= half_high)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_bit_length_and_trailing_zeros(n):
    assert int(bit_length(n)) == (n.bit_length() if n > 0 else 0)
    assert int(trailing_zeros(n)) == (0 if n == 0 else (n & -n).bit_length() - 1)


@given(st.integers(-(2**62) + 1, 2**62 - 1), st.integers(0, 200))
def test_shift_left_is_exact_or_refused(m, bits):
    if m == 0 or abs(m).bit_length() + bits <= MAX_WIDTH:
        assert int(shift_left(np.array(m), bits, "here")) == m << bits
    else:
        with pytest.raises(Int64Overflow, match=r"does not fit the golden model's 64-bit integers\.\n  Where: here"):
            shift_left(np.array(m), bits, "here")


def test_formats_are_frozen_and_compare():
    k = np.array([1, 0])
    fixed = Fixed(k, 2, [1, 3])
    k[0] = 0
    assert fixed.k.tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        fixed.f[0] = 5
    assert fixed.equals(Fixed([1, 0], [2, 2], [1, 3])) and not fixed.equals(Fixed([1, 0], [2, 2], [1, 4]))
    assert fixed.reshape((2, 1)).shape == (2, 1) and fixed.broadcast_to((3, 2)).shape == (3, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad):
    with pytest.raises(DataError, match=r"Cannot quantize NaN or infinity\.\n  Expected: finite numbers\n  Received: 1 of 2 are not"):
        Fixed(1, 3, 2).quantize([1.0, bad])


def test_senseless_formats_and_modes_are_refused():
    with pytest.raises(ConfigError, match="A sign is one bit or none"):
        Fixed(2, 1, 1)
    with pytest.raises(ConfigError, match=rf"too wide.\n  Expected: at most {MAX_WIDTH} bits\n  Received: 63 bits"):
        Fixed(1, 31, [0, 31])
    with pytest.raises(ConfigError, match="Unknown rounding mode"):
        Fixed(1, 2, 3).quantize(0.5, "ROUND")  # type: ignore[arg-type]
    text = "Unknown overflow mode.\n  Where: here\n  Expected: WRAP, SAT, SAT_SYM, WRAP_SM\n  Received: 'sat'"
    with pytest.raises(ConfigError, match=text):
        check_modes("RND", "sat", "here")
    with pytest.raises(ConfigError, match="needs a source of random bits"):
        Fixed(1, 2, 3).quantize(0.5, "S_RND")


def test_empty_arrays_pass():
    assert Fixed(1, 2, 3).quantize(np.zeros((0, 4))).shape == (0, 4)
    assert shift_left(np.zeros(0, np.int64), 70, "here").shape == (0,)
