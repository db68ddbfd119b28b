"""Every case of every row of the catalogue keeps the contract of `tests.check_layer`."""

from __future__ import annotations

import pytest

from tests.check_layer import catalogue, check_layer

CASES = [(name, option) for name, cases in catalogue().items() for option in cases]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_layer(name, option):
    check_layer(catalogue()[name][option])
