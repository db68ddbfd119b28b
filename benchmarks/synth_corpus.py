"""Synthesise a corpus of designs by Yosys, and keep what each took beside what decides it: the evidence behind `hgq.estimate.fit`.

    python benchmarks/synth_corpus.py                     every design that the store lacks
    python benchmarks/synth_corpus.py --workers 4         four at a time, each design in a process of its own
    python benchmarks/synth_corpus.py --workers ray       on Ray (ray://HOST:PORT: that cluster), whose machines all have this repository
    python benchmarks/synth_corpus.py --part 0/2          the first of two halves, elsewhere (own --store, then --merge)
    python benchmarks/synth_corpus.py --only dense --list

A row: family, seed, target, clock, cells; alkaid's cost, EBOPs, and the counts of `hgq.converters.rtl.logic`. Interrupt at will: the store
has every row that is done, and the next call makes what it lacks. A process or machine that dies loses its row alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
STORE = Path(__file__).parent / "data" / "synth_corpus.json"
PARTS = {"xc7": "xc7a100tcsg324-1", "xcup": "xcvu13p-flga2577-2-e", "ecp5": "lfe5u-85f-6bg381c"}
CLOCKS = (4.0, 5.0, 8.0, 12.0)
SEEDS = 8
"""Designs of each family."""
ECP5_SEEDS = (1, 5, 2)
"""Those also built for ECP5."""
LARGEST_COMBINATIONAL = 500
"""A deep design without registers keeps ABC busy for a quarter of an hour from some 1,500 on."""
LARGEST = 4500
"""Designs whose adder-graph cost is above this are left out: they take minutes each and say nothing new."""


Item = tuple[str, int, str]
"""Family, seed, target."""


def wanted(only: str) -> list[Item]:
    """(family, seed, target) of every row: every design for Artix-7 and UltraScale+, and `ECP5_SEEDS` of each family for ECP5."""
    from corpus_designs import FAMILIES

    names = [name for name in FAMILIES if re.search(only, name)]
    rows = [(name, seed, target) for target in ("xc7", "xcup") for seed in range(SEEDS) for name in names]
    return rows + [(name, seed, "ecp5") for seed in ECP5_SEEDS for name in names]


def by_time(items: list[Item], rows: list[dict[str, Any]]) -> list[Item]:
    """Those first that the store knows to be small on another target: an interrupted run then has most rows for its time."""
    lut = {(row["family"], row["seed"]): row["lut"] for row in rows if "lut" in row}
    return sorted(items, key=lambda item: lut.get(item[:2], LARGEST))


def build(name: str, seed: int, target: str) -> tuple[Any, dict[str, str], dict[str, Any]]:
    """A design, the options it is written with, and its row as far as no synthesis is needed."""
    from corpus_designs import FAMILIES, design
    from hgq.converters.rtl.logic import logic

    from hgq import plugins
    from hgq.backend import Options
    from hgq.estimate import ebops_of

    graph = design(name, seed)
    clock = CLOCKS[zlib.crc32(f"{name}{seed}".encode()) % len(CLOCKS)]
    backend = plugins.backend("rtl")
    options: dict[str, str] = {}
    pipeline = backend.pipeline(graph, Options(part=PARTS[target], clock_ns=clock))
    if seed % 4 == 3 and pipeline.comb.cost < LARGEST_COMBINATIONAL:
        options = {"stages": "0"}
        pipeline = backend.pipeline(graph, Options(part=PARTS[target], clock_ns=clock, extra=options))
    row: dict[str, Any] = {
        "family": name,
        "group": FAMILIES[name][0],
        "seed": seed,
        "target": target,
        "clock_ns": clock,
        "combinational": bool(options),
        "cost": round(float(pipeline.comb.cost), 2),
        "ebops": round(float(ebops_of(graph)), 2),
        "logic": {key: value for key, value in logic(pipeline).items() if value},
        "stage_delay": round(max(pipeline.stage_delays, default=0.0), 3),
        "cycles": pipeline.latency_cycles,
        "program": program(pipeline),
    }
    return graph, options, row


def program(pipeline: Any) -> str:
    """A digest of what is synthesised: rows of another program are out of date."""
    stages = [(comb.ops, comb.out_idxs, comb.out_shifts, comb.out_negs) for comb in pipeline.fsm.logic.values()]
    tables = [table.table.tobytes() for comb in pipeline.fsm.logic.values() for table in comb.lookup_tables or ()]
    return hashlib.blake2b(repr((stages, tables)).encode(), digest_size=6).hexdigest()


def measure(name: str, seed: int, target: str, route: bool) -> dict[str, Any]:
    """One row."""
    from hgq.synth import synthesise

    graph, options, row = build(name, seed, target)
    if row["cost"] > LARGEST:
        return {**row, "skipped": "too large"}
    found = synthesise(graph, PARTS[target], row["clock_ns"], options, route=route and target == "ecp5" and not options)
    net = found.netlist
    row |= {
        "lut": net.lut, "ff": net.ff, "carry": net.carry, "dsp": net.dsp, "bram": net.bram, "inverter": net.inverter,
        "depth_lut": net.depth_lut, "depth_carry": net.depth_carry, "tool": found.tool, "seconds": found.seconds,
    }  # fmt: skip
    if found.placed is not None:
        row["fmax_mhz"] = found.placed.fmax_mhz
    return row


# ---- many at a time ----------------------------------------------------------------------------------------------------------------------


def rows_of(items: list[Item], route: bool, workers: str) -> Iterator[tuple[Item, dict[str, Any] | str]]:
    """Each item with its row, or why there is none, as they come."""
    if workers == "1":
        for item in items:
            try:
                yield item, measure(*item, route)
            except Exception as error:
                yield item, f"{type(error).__name__}: {error}"
    elif workers.isdigit():
        with ThreadPoolExecutor(int(workers)) as pool:
            under_way = {pool.submit(apart, item, route): item for item in items}
            try:
                for ended in as_completed(under_way):
                    yield under_way[ended], ended.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    else:
        yield from on_ray(items, route, workers)


def apart(item: Item, route: bool) -> dict[str, Any] | str:
    """A row by a process of its own: whatever it does to itself, the others go on."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--only", f"^{re.escape(item[0])}$", "--seed", str(item[1]), "--target", f"^{item[2]}$"]
        done = subprocess.run([*command, "--store", str(store), *(["--route"] if route else [])], capture_output=True, text=True)
        rows = read(store)
    return rows[0] if rows else f"exit code {done.returncode}: {done.stderr[-300:]}"


def on_ray(items: list[Item], route: bool, address: str) -> Iterator[tuple[Item, dict[str, Any] | str]]:
    """A task for each row."""
    import ray  # pyright: ignore[reportMissingImports]

    ray.init(address=None if address == "ray" else address, **({"include_dashboard": False} if address == "ray" else {}))
    task = ray.remote(num_cpus=1, max_retries=1)(apart)
    under_way = {task.remote(item, route): item for item in items}
    while under_way:
        (ended,), _ = ray.wait(list(under_way))
        item = under_way.pop(ended)
        try:
            yield item, ray.get(ended)
        except ray.exceptions.RayError as error:
            yield item, str(error).splitlines()[0]


def key(row: dict[str, Any]) -> Item:
    return row["family"], row["seed"], row["target"]


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.is_file() else []


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    from hgq.output import write_file_atomically

    lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=key))
    write_file_atomically(path, f"[\n{lines}\n]\n", force=True)


def recounted(rows: list[dict[str, Any]], store: Path, only: str) -> None:
    """Count anew the rows whose families match, and leave out those that were measured of another program."""
    for index, row in enumerate(rows):
        if not re.search(only, row["family"]):
            continue
        new = build(*key(row))[2]
        if row.get("program", new["program"]) != new["program"]:
            print(f"{key(row)} is out of date", file=sys.stderr)
            new = {}
        rows[index] = row | new if new else {}
    write(store, [row for row in rows if row])


def main(
    only: Annotated[str, typer.Option(help="Families that match this.")] = "",
    group: Annotated[str, typer.Option(help="Families of groups that match this: adders, other.")] = "",
    target: Annotated[str, typer.Option(help="Targets that match this.")] = "",
    seed: Annotated[int | None, typer.Option(help="Designs of this seed.")] = None,
    workers: Annotated[str, typer.Option(help="N processes, or ray, or ray://HOST:PORT.")] = "1",
    part: Annotated[str, typer.Option(help="K/N: the K-th of N parts of the list.")] = "0/1",
    store: Annotated[Path, typer.Option(help="Where the rows go.")] = STORE,
    merge: Annotated[list[Path] | None, typer.Option(help="Stores to take rows from, instead of measuring.")] = None,
    route: Annotated[bool, typer.Option(help="Place and route the ECP5 designs too.")] = False,
    recount: Annotated[
        bool, typer.Option(help="Count the RTL of rows anew and keep what was measured, if the program is the same.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Measure also what the store has.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show what is missing, and stop.")] = False,
) -> None:
    """Synthesise what the store lacks."""
    rows = read(store)
    if merge:
        known = {key(row): row for path in merge for row in read(path)} | {key(row): row for row in rows}
        write(store, list(known.values()))
        return
    if recount:
        recounted(rows, store, only)
        return
    done = set() if again else {key(row) for row in rows}
    number, count = (int(piece) for piece in part.split("/"))
    asked = [item for item in wanted(only) if re.search(target, item[2]) and seed in (None, item[1])]
    if group:
        from corpus_designs import FAMILIES

        asked = [item for item in asked if re.search(group, FAMILIES[item[0]][0])]
    todo = by_time([item for index, item in enumerate(asked) if item not in done and index % count == number], rows)
    if list_only:
        print(f"{len(done)} rows, {len(todo)} missing:", *(" ".join(map(str, item)) for item in todo), sep="\n")
        return
    start = time.monotonic()
    for index, (item, row) in enumerate(rows_of(todo, route, workers)):
        if isinstance(row, str):
            print(f"{item}: {row}", file=sys.stderr)
            continue
        rows = [*(other for other in rows if key(other) != item), row]
        write(store, rows)
        print(
            f"[{index + 1}/{len(todo)}] {item} cost {row['cost']:.0f} LUT {row.get('lut')}, {time.monotonic() - start:.1f} s so far",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
