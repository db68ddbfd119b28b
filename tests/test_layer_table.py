"""docs/layers.md tells what scripts/layer_table.py saw, of every case that there is, and no case differs anywhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.check_layer import catalogue

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("layer_table", ROOT / "scripts" / "layer_table.py")
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)
SEEN = json.loads(table.SEEN.read_text())
AGAIN = "run scripts/layer_table.py"


def test_every_case_is_in_the_table():
    assert {row: set(cases) for row, cases in catalogue().items()} == {row: set(SEEN[row]["cases"]) for row in SEEN}, AGAIN


def test_the_page_is_what_was_seen():
    assert table.PAGE.read_text() == table.render(SEEN), AGAIN


@pytest.mark.parametrize(("row", "case", "column", "outcome"), table.outcomes(SEEN))
def test_outcomes_are_those_that_the_contract_expects(row, case, column, outcome):
    expected = getattr(catalogue()[row][case], column, None)
    if expected is None:
        assert outcome == table.EXACT, AGAIN
    else:
        assert re.search(expected, outcome), AGAIN


def test_mismatches_and_refusals_are_told_apart():
    assert table.outcome_of(lambda: None) == "exact"

    def differ():
        raise AssertionError("1 of 3")

    assert table.outcome_of(differ) == "WRONG: 1 of 3"
