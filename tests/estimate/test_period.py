"""The period model of ECP5: its coefficients are those of the pipelines that nextpnr routed, and the line is fitted right."""

import numpy as np
import pytest

from benchmarks import period
from hgq.estimate import device_of, latency


def test_a_line_is_found_by_hand():
    rows = [
        {"design": n % 3, "stage_delay": delay, "fmax_mhz": 1000 / (3 + 2 * delay)}
        for n, delay in enumerate((1.0, 2.0, 4.0, 5.0, 7.0, 8.0))
    ]
    assert period.line(rows) == pytest.approx([3.0, 2.0])
    assert period.unseen(rows) == pytest.approx(np.ones(6))


def test_the_coefficients_are_those_of_the_routed_pipelines():
    rows, family = period.read(), device_of(period.PART).family
    assert [family.period_base_ns, family.period_per_unit_ns] == [round(value, 2) for value in period.line(rows)]
    for row, reached in zip(rows, period.periods(rows), strict=True):
        expected = latency.period(device_of(period.PART), row["stage_delay"], row["lut"])
        assert expected.low <= reached <= expected.high
