"""Run every case of the catalogue of layers (tests/rows) in every representation, and write docs/layers.md from what was seen.

    python scripts/layer_table.py                 everything; minutes to an hour, since g++ compiles each case once or twice
    python scripts/layer_table.py --only QDense   some rows
    python scripts/layer_table.py --part 1/2      every second row; with --part 2/2 beside it, two cores work
    python scripts/layer_table.py --render        docs/layers.md again from docs/layers.json

docs/layers.json keeps what was seen, by the digest of the frozen graph: an interrupted run goes on where it was, and what was exact for the
same graph is not run again unless --again is given. tests/test_layer_table.py checks that the file tells of every case there is.
"""

from __future__ import annotations

import argparse
import fcntl
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).parents[1]
SEEN, PAGE = ROOT / "docs" / "layers.json", ROOT / "docs" / "layers.md"
COLUMNS = {"golden": "golden", "rtl": "RTL", "io_parallel": "hls4ml io_parallel", "io_stream": "hls4ml io_stream"}
EXACT = "exact"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these")
    parser.add_argument("--part", default="1/1", help="K/N: the K-th of N parts of the rows")
    parser.add_argument("--again", action="store_true", help="run also what was seen already")
    parser.add_argument("--render", action="store_true", help="write the page, run nothing")
    options = parser.parse_args()
    if not options.render:
        sys.path.insert(0, str(ROOT))
        run(options.only, options.part, options.again)
    with stored() as seen:
        PAGE.write_text(render(seen))
    wrong = [f"{row}, {case}, {column}" for row, case, column, outcome in outcomes(seen) if outcome.startswith("WRONG")]
    print("\n".join(wrong) or f"{PAGE}: no mismatch")
    return 1 if wrong else 0


@contextmanager
def stored() -> Iterator[dict[str, Any]]:
    """What was seen so far; what is changed inside is saved. Processes take turns."""
    with SEEN.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        seen: dict[str, Any] = json.loads(text) if text else {}
        yield seen
        changed = json.dumps(seen, indent=1, sort_keys=True) + "\n"
        if changed != text:
            file.truncate(0)
            file.write(changed)


def run(only: list[str] | None, part: str, again: bool) -> None:
    """Run cases, and save what was seen of each."""
    from tests.check_layer import catalogue

    everything = catalogue()
    with stored() as seen:
        for row in [row for row in seen if row not in everything]:
            del seen[row]
        for row, content in seen.items():
            content["cases"] = {label: result for label, result in content["cases"].items() if label in everything[row]}
    first, step = map(int, part.split("/"))
    rows = {name: cases for name, cases in everything.items() if not only or any(text in name for text in only)}
    rows = dict(list(rows.items())[first - 1 :: step])
    with Progress(console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as workdir:
        task = progress.add_task("", total=sum(map(len, rows.values())))
        for name, cases in rows.items():
            for label, case in cases.items():
                progress.update(task, description=f"{name} {label}")
                with stored() as seen:
                    earlier = seen.get(name, {}).get("cases", {}).get(label, {})
                summary, result = observe(case, {} if again else earlier, Path(workdir))
                with stored() as seen:
                    content = seen.setdefault(name, {"cases": {}})
                    content["summary"], content["cases"][label] = summary, result
                progress.advance(task)


def observe(case: Any, earlier: dict[str, Any], workdir: Path) -> tuple[str, dict[str, Any]]:
    """Run one case in all representations, save those that were exact `earlier` for the same graph.

    Returns:
        The first sentence of the layer's documentation, and what was seen.
    """
    from hgq.converters.hls4ml import HLS4ML

    from hgq import plugins
    from hgq.backend import Options
    from tests.check_layer import Subject, check_exact

    subject = Subject(case)
    doc = (inspect.getdoc(type(subject.layer)) or "").replace("\n", " ").split(". ")[0].rstrip(".")
    digest = subject.optimized.digest()
    known = {column for column in COLUMNS if earlier.get("digest") == digest and earlier.get(column) == EXACT}
    graph, data = subject.optimized, subject.data

    def equal(simulated: dict[str, Any]) -> None:
        np.testing.assert_array_equal(next(iter(simulated.values())), subject.golden)

    def compiled(io_type: str) -> None:
        equal(HLS4ML().simulate(graph, Options(name="dut", extra={"io_type": io_type}), data, workdir))

    attempts: dict[str, Callable[[], Any]] = {
        "golden": lambda: check_exact(subject),
        "rtl": lambda: equal(plugins.backend("rtl").comb_predict(graph, data)),
        "io_parallel": lambda: compiled("io_parallel"),
        "io_stream": lambda: compiled("io_stream"),
    }
    seen = {column: EXACT if column in known else outcome_of(attempt) for column, attempt in attempts.items()}
    return doc, {"digest": digest, "samples": len(subject.golden), **seen}


def outcome_of(attempt: Callable[[], Any]) -> str:
    """`EXACT`, the reason of a refusal, or WRONG and what was wrong."""
    from hgq.errors import ConfigError, LoweringError

    try:
        attempt()
    except (LoweringError, ConfigError) as error:
        received = f" Received: {error.received}." if getattr(error, "received", None) else ""
        return f"{error.what}{received}"
    except AssertionError as error:
        return "WRONG: " + " ".join(str(error).split())[:200]
    return EXACT


def outcomes(seen: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Everything seen, as (row, case, column, outcome)."""
    return [
        (row, label, column, result[column])
        for row, content in seen.items()
        for label, result in content["cases"].items()
        for column in COLUMNS
    ]


def render(seen: dict[str, Any]) -> str:
    """The page. Refusals are notes below the table, equal ones one note."""
    notes: dict[str, int] = {}

    def cell(results: dict[str, Any], column: str) -> str:
        refused = {label: result[column].split(" Received: ")[0] for label, result in results.items() if result[column] != EXACT}
        marks = sorted({notes.setdefault(reason, len(notes) + 1) for reason in refused.values()})
        noted = " ".join(f"[{mark}]" for mark in marks)
        if not refused:
            return EXACT
        kept = [label for label in results if label not in refused]
        return f"{EXACT}; not {', '.join(refused)} {noted}" if kept else f"refused {noted}"

    def name(row: str) -> str:
        return f"`{row}`"

    cases = sum(len(content["cases"]) for content in seen.values())
    head = f"| layer | cases | {' | '.join(COLUMNS.values())} |\n|---|---|{'---|' * len(COLUMNS)}\n"
    order = sorted(seen, key=lambda row: (row.startswith("keras."), row.lower()))
    lines = [
        f"| {name(row)} | {', '.join(seen[row]['cases'])} | " + " | ".join(cell(seen[row]["cases"], column) for column in COLUMNS) + " |"
        for row in order
    ]
    meanings = [f"- {name(row)}: {seen[row]['summary'].split('::')[0]}." for row in order if not row.startswith("keras.")]
    listed = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join(
        [
            "# Layers",
            "",
            "<!-- Written by scripts/layer_table.py from docs/layers.json. Do not edit. -->",
            "",
            f"What `scripts/layer_table.py` saw when it ran the {cases} cases of `tests/rows`: each is a layer with some options, its bits",
            "scattered at random, frozen, and compared with Keras on hundreds of samples, in range, three times beyond it, and at the",
            "corners of every port. *exact* means that no bit of any sample differs. *golden* compares Keras and the integers of the",
            "golden model, before and after the passes; *RTL* the adder graph that Verilog and VHDL are written from, in alkaid's",
            "simulation; *hls4ml* the C++ that g++ compiles from the project. What a backend cannot compute exactly it refuses, with the",
            "reason below.",
            "",
            head + "\n".join(lines),
            "",
            "## Reasons",
            "",
            *(listed or ["None."]),
            "",
            "## What they are",
            "",
            *meanings,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
