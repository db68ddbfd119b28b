from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hgq.report.axes import Scale, number, scale_for
from hgq.report.charts import front


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5, "5"),
        (5.0, "5"),
        (1234.6, "1,235"),
        (6724, "6,724"),
        (0.65, "0.65"),
        (0.123456, "0.1235"),
        (25.25, "25.25"),
        (1e-7, "1·10⁻⁷"),
        (3.21e-6, "3.21·10⁻⁶"),
        (-0.5, "-0.5"),
        (math.nan, "–"),
        (math.inf, "–"),
        (2.5e9, "2,500,000,000"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@given(st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=20))
def test_linear_scales_show_everything(values):
    scale = scale_for(values, 0, 100)
    assert all(0 <= scale(v) <= 100 for v in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 9 and all(scale.low <= t <= scale.high for t in ticks)
    assert ticks == sorted(set(ticks))


@given(st.lists(st.floats(1e-9, 1e9), min_size=0, max_size=20))
def test_log_scales_show_everything(values):
    scale = scale_for(values, 100, 0, log=True)
    assert all(-1e-6 <= scale(v) <= 100 + 1e-6 for v in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 9 and ticks == sorted(set(ticks))


def test_pixels():
    assert Scale(0, 10, 50, 150)(5) == 100
    assert Scale(1, 100, 0, 200, log=True)(10) == pytest.approx(100)
    assert not Scale(0, 1, 0, 1).holds(math.nan) and not Scale(0, 1, 0, 1).holds(2)


points = st.lists(st.tuples(st.integers(0, 20).map(float), st.integers(0, 20).map(float)), max_size=30)


@given(points, st.booleans())
def test_the_front_by_brute_force(cloud, higher):
    def beaten(p):
        sign = 1 if higher else -1
        return any(q[0] <= p[0] and sign * q[1] >= sign * p[1] and q != p for q in cloud)

    assert front(cloud, higher_is_better=higher) == sorted({p for p in cloud if not beaten(p)})
