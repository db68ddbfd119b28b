"""Every case of `tests.rows.pooling` keeps the contract of layers."""

from __future__ import annotations

from tests.check_layer import contract_of

test_layer = contract_of("pooling")
