"""`hgq.quantizers.reading` and `FixedFormats.format`: what NumPy reads is what TensorFlow computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq.errors import ConfigError
from hgq.numerics import OVERFLOWS, ROUNDINGS
from hgq.quantizers import FixedQuantizer, ops, reading

EXTREMES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.75, 2.0**24, -(2.0**24), 2.0**24 - 1, 1.9999999, -1.9999999, 2.0**-20, -(2.0**-126), 3e7, -3e7],
    np.float32,
)


def reference_format(quantizer, constant=None):
    """k, i, f as TensorFlow's ops give them, without those that can hold nothing."""
    k, i, f = (np.asarray(part, np.int64) for part in quantizer._kif(constant))
    dead = np.asarray(ops.dead(k, i, f, quantizer.overflow))
    k, i, f = (np.where(dead | (k + i + f <= 0), 0, part) for part in (k, i, f))
    return (k, i, f) if quantizer.constant else (k[0], i[0], f[0])


def same(fixed, parts):
    for got, wanted in zip(fixed.astuple(), parts, strict=True):
        np.testing.assert_array_equal(got, np.broadcast_to(wanted, fixed.shape))


def test_integer_bits_equal_those_of_tensorflow():
    values = np.concatenate(
        [EXTREMES, EXTREMES * np.float32(1 + 2.0**-23), np.ldexp(np.float32([1, -1, 1.5]), [[-100], [-30], [3], [90]]).ravel()]
    )
    np.testing.assert_array_equal(reading.integer_bits(values), np.asarray(ops.integer_bits(values)))


@pytest.mark.parametrize("parametrization", ["kif", "kbi"])
@pytest.mark.parametrize("granularity", ["element", "channel", "tensor"])
def test_formats_equal_those_of_tensorflow(parametrization, granularity):
    """Of constants and of data, in all modes: variables at fractions of bits and at their bounds, constants of extreme magnitudes."""

    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        draw = np.random.default_rng(seed)
        scale = np.ldexp(np.float32(1), draw.integers(-24, 24, (3, 4))).astype(np.float32)
        w = np.where(draw.random((3, 4)) < 0.3, draw.choice(EXTREMES, (3, 4)), draw.normal(size=(3, 4)).astype(np.float32) * scale)
        rounding, overflow = draw.choice(ROUNDINGS), draw.choice(OVERFLOWS)
        for place in ("weight", "data"):
            q = FixedQuantizer(
                str(parametrization), place=place, granularity=granularity, rounding=str(rounding), overflow=str(overflow), seed=1
            )
            q.build(w.shape)
            for name in ("_f", "_b", "_i", "_k"):
                if (variable := getattr(q, name, None)) is not None:
                    wide = draw.random() < 0.5
                    bits = draw.uniform(*((-24, 24) if wide else (-2, 9)), variable.shape)
                    halves = np.round(bits * 2) / 2  # ties between whole numbers of bits are rounded alike, too
                    variable.assign(draw.integers(0, 2, variable.shape) if name == "_k" else np.where(draw.random() < 0.5, bits, halves))
            constant = w.astype(np.float32) if place == "weight" else None
            same(q.format(constant), reference_format(q, constant))

    check()


def test_a_range_that_follows_its_constant_needs_it():
    q = FixedQuantizer("kif", place="bias")
    q.build((3,))
    with pytest.raises(ConfigError, match="The range of this quantizer is that of its constant"):
        q.format()
    with pytest.raises(ConfigError, match="The range of this quantizer is that of its constant"):
        q._kif()
