"""Every case of `tests.rows.dense` keeps the contract of layers."""

from __future__ import annotations

from tests.check_layer import contract_of

test_layer = contract_of("dense")
