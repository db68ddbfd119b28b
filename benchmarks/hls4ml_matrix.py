"""Every back end of hls4ml, io_type and strategy on a jet MLP and an MNIST conv net: C simulation against the golden model.

    python benchmarks/hls4ml_matrix.py --store STORE [--mnist mnist.npz] [--samples 1000]      # measures what the store does not have
    python benchmarks/hls4ml_matrix.py --render                                              # docs/hls4ml.md from benchmarks/data

The store is a folder: the two models, and ``cells.json``, written after every cell. A run that was stopped goes on where it was; a cell of
another model, by its digest, is measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError, ToolFailed
from hgq.ir import file, interpret
from hgq.output import write_file_atomically
from hgq.plugins import backend

HERE = Path(__file__).resolve().parent
KEPT = HERE / "data" / "hls4ml_matrix.json"
PAGE = HERE.parent / "docs" / "hls4ml.md"
MODELS = {"jets": "jet MLP, 16-64-32-32-5", "mnist": "MNIST conv net, 28x28 - conv 6@5x5/2 - pool - conv 8@3x3 - dense 10"}
BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult", "oneAPI")
IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("latency", "resource", "resource_unrolled", "distributed_arithmetic")
REUSE = {"resource": "4", "resource_unrolled": "4"}


def make_models(store: Path, mnist: str) -> None:
    """Two trained models, frozen."""
    import keras

    from hgq import datasets
    from hgq.freeze import freeze
    from hgq.layers import QConv2D, QDense, QInput, QMaxPooling2D

    channel = "data(granularity=channel)"
    wanted = {
        "jets": (
            "jsc_sim",
            lambda: [QInput(), QDense(64, activation="relu"), *(QDense(32, activation="relu") for _ in range(2)), QDense(5)],
        ),
        "mnist": (
            mnist,
            lambda: [
                QConv2D(6, 5, strides=2, activation="relu", input_quantizer=channel),
                QMaxPooling2D(2, quantizer=channel),
                QConv2D(8, 3, activation="relu", input_quantizer=channel),
                keras.layers.Flatten(),
                QDense(10),
            ],
        ),
    }
    for name, (source, layers) in wanted.items():
        if (store / f"{name}.hgq").is_file():
            continue
        keras.utils.set_random_seed(7)
        data = datasets.load(source, scaling="standard" if name == "jets" else "unit")
        x = data.x_train if name == "jets" else data.x_train.reshape(-1, 28, 28, 1)
        inputs = keras.Input(x.shape[1:])
        y = inputs
        for layer in layers():
            y = layer(y)
        model = keras.Model(inputs, y, name=name)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        model.fit(x[:20000], data.y_train[:20000], batch_size=256, epochs=3, verbose=0)
        x_test = data.x_test.reshape(-1, *x.shape[1:])[:4000]
        print(name, "accuracy", model.evaluate(x_test, data.y_test[:4000], verbose=0)[1])
        file.save(freeze(model, x[:4000]), store / f"{name}.hgq")
        np.savez(store / f"{name}.npz", x=x_test)


def measure(store: Path, samples: int) -> None:
    """Every cell that the store does not have."""
    path = store / "cells.json"
    cells = json.loads(path.read_text()) if path.is_file() else {}
    rows = product(MODELS, BACKENDS, IO_TYPES, STRATEGIES)
    slow = ("resource_unrolled", "distributed_arithmetic")  # minutes each
    for name, vendor, io_type, strategy in sorted(rows, key=lambda row: (row[-1] in slow, row[-1] == slow[1])):
        key = f"{name}/{vendor}/{io_type}/{strategy}"
        graph, x = file.load(store / f"{name}.hgq"), np.load(store / f"{name}.npz")["x"][:samples]
        if cells.get(key, {}).get("model") == graph.digest():
            continue
        start = time.perf_counter()
        cells[key] = {**cell(graph, x, vendor, io_type, strategy), "model": graph.digest()}
        cells[key]["seconds"] = round(time.perf_counter() - start, 1)
        write_file_atomically(path, json.dumps(cells, indent=1, sort_keys=True) + "\n", force=True)
        print(key, cells[key], flush=True)


def cell(graph, x: np.ndarray, vendor: str, io_type: str, strategy: str) -> dict:
    """One number, or the reason why there is none."""
    from hgq.converters.hls4ml.vendors import VENDORS

    extra = {"backend": vendor, "io_type": io_type, "strategy": strategy}
    if strategy in REUSE:
        extra["reuse_factor"] = REUSE[strategy]
    options = Options(part=VENDORS[vendor].part, name="dut", extra=extra)
    hls4ml = backend("hls4ml")
    try:
        project = hls4ml.emit(graph, options)
        with tempfile.TemporaryDirectory() as folder:
            got = hls4ml.simulate(graph, options, x, folder)
    except (ConfigError, LoweringError) as error:
        known = f"hls4ml has no other strategy than {str(error.expected).split(' and io_')[0]}"
        return {"reason": known if "strategy" in error.what else f"{error.what} {error.received}"}
    except ToolFailed as error:
        return {"reason": f"g++: {error.what} {(error.received or '').splitlines()[-1]}"}
    want = interpret.run(graph, x)
    wrong = sum((got[name] != want[name]).reshape(len(x), -1).any(axis=1) for name in want)
    return {"mismatches": int(np.count_nonzero(wrong)), "samples": len(x), "files": len(project.files)}


def render() -> str:
    """The page."""
    cells = json.loads(KEPT.read_text())
    lines = [(HERE / "hls4ml.md.in").read_text().rstrip()]
    reasons: list[str] = []
    for name, title in MODELS.items():
        lines += [f"\n## {title}\n", "| back end | io_type | " + " | ".join(STRATEGIES) + " |", "|---|---|" + "---|" * len(STRATEGIES)]
        for vendor, io_type in product(BACKENDS, IO_TYPES):
            row = []
            for strategy in STRATEGIES:
                found = cells.get(f"{name}/{vendor}/{io_type}/{strategy}")
                if found is None:
                    row.append("not run")
                elif "mismatches" in found:
                    row.append(f"{found['mismatches']} of {found['samples']:,}")
                else:
                    if found["reason"] not in reasons:
                        reasons.append(found["reason"])
                    row.append(f"– ({reasons.index(found['reason']) + 1})")
            lines.append(f"| {vendor} | {io_type} | " + " | ".join(row) + " |")
    lines += ["\n## Why a cell has no number\n", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--mnist", default=str(Path.home() / ".keras/datasets/mnist.npz"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--render", action="store_true")
    given = parser.parse_args()
    if given.store:
        given.store.mkdir(parents=True, exist_ok=True)
        if not all((given.store / f"{name}.hgq").is_file() for name in MODELS):
            make_models(given.store, given.mnist)
        measure(given.store, given.samples)
        write_file_atomically(KEPT, (given.store / "cells.json").read_text(), force=True)
    if given.render:
        write_file_atomically(PAGE, render(), force=True)


if __name__ == "__main__":
    main()
