"""docs/performance.md tells what benchmarks/training.py measured."""

from __future__ import annotations

from benchmarks.training_speed import page


def test_the_page_is_what_was_measured():
    again = "run benchmarks/training.py --render"
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read()), again


def test_ratios_are_those_of_neighbours():
    """The first contender is what the others are compared with; a median lies between its quartiles."""
    for case in page.read()["cases"].values():
        first, *others = case["contenders"].values()
        assert first["ratio"] == [1, 1, 1] and others
        assert all(row["ratio"] == sorted(row["ratio"]) and row["ms"] == sorted(row["ms"]) for row in others)
