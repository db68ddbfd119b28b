"""The period model of ECP5: its coefficients are those of the pipelines that nextpnr routed, and the line is fitted right."""

import numpy as np
import pytest

from benchmarks import period
from hgq.estimate import device_of, latency


def test_the_coefficients_are_found_by_hand():
    rows = [
        {"design": n % 3, "stage_delay": delay, "lut": 500 * 2**n, "fmax_mhz": 1000 / (3 + (2 + 0.5 * np.log(2**n / 2)) * delay)}
        for n, delay in enumerate((1.0, 2.0, 4.0, 5.0, 7.0, 8.0))
    ]
    assert period.line(rows) == pytest.approx([3.0, 2.0, 0.5])


def test_the_coefficients_are_those_of_the_routed_pipelines():
    rows, family = period.read(), device_of(period.PART).family
    found = [family.period_base_ns, family.period_per_unit_ns, family.crowding_ns]
    assert found == [round(value, 2) for value in period.line(rows)]
    for row, reached in zip(rows, period.periods(rows), strict=True):
        expected = latency.period(device_of(period.PART), row["stage_delay"], row["lut"])
        assert expected.low <= reached <= expected.high
        assert reached == pytest.approx(expected.value, rel=0.18)


def test_additions_keep_half_their_time_in_small_designs():
    device = device_of(period.PART)
    small, smaller = (latency.period(device, 6.0, lut).value for lut in (30, 3))
    assert small == smaller == pytest.approx(device.family.period_base_ns + 3 * device.family.period_per_unit_ns)
