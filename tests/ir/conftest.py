from __future__ import annotations

import pytest

from hgq.ir.graph import Graph
from tests.ir.small import small_graph


@pytest.fixture
def graph() -> Graph:
    return small_graph()
