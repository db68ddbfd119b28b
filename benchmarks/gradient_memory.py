"""What memory a training step takes, with float32 gradients and with schemes that keep less; writes benchmarks/data/gradient_memory.json.

    python benchmarks/gradient_memory.py                       everything; about five minutes
    python benchmarks/gradient_memory.py --only '^dense/xla'   what matches network/mode/gradients

Megabytes (of 2**20 bytes) are those that one training step adds, at its highest, to the resident memory of a process that holds model,
optimizer and data already: Linux counts them (VmHWM, set back before the step). The step has been traced, and run on a batch of 16 where
the graph takes any, before that. The higher one of two steps counts.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "benchmarks" / "data" / "gradient_memory.json"
NETWORKS = {
    "dense": "16 keras.layers.Dense of 512, batch 4096",
    "conv": "12 keras.layers.Conv2D, 3x3 of 32 filters on 32x32, batch 128",
    "qdense": "16 QDense of 512, batch 4096",
}
SCHEMES = ("none", "hlq", "hlq(rank=8, kept_bits=4)", "luq4_int8")
MODES = {"graph": "TensorFlow's graph", "native": "graph with native ops", "xla": "XLA"}
LAYERS = {"dense": 16, "conv": 12, "qdense": 16}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="what matches network/mode/gradients; the others stay as they are")
    parser.add_argument("--worker", nargs="+", metavar="NETWORK MODE GRADIENTS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        network, mode, *schemes = options.worker
        for scheme in schemes:
            print(json.dumps({f"{network}/{mode}/{scheme}": measure(network, mode, scheme)}), flush=True)
        return 0
    for network, mode in product(NETWORKS, MODES):
        chosen = [scheme for scheme in SCHEMES if re.search(options.only, f"{network}/{mode}/{scheme}")]
        for entry in worker(network, mode, *chosen) if chosen else ():
            store(entry)
    return 0


def worker(network: str, mode: str, *schemes: str) -> list[dict]:
    """`measure`, of one scheme after the other, in a process of its own."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # what is freed goes back to the system at once, else the peak is that of glibc's pools
    env = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": "131072"}
    env["TF_NUM_INTEROP_THREADS"] = "2"  # the order of a graph's ops, and with it the peak, is another with one; see docs/gradients.md
    command = [sys.executable, __file__, "--worker", network, mode, *schemes]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def store(entry: dict) -> None:
    print(entry, flush=True)
    seen = json.loads(DATA.read_text()) if DATA.is_file() else {}
    DATA.write_text(json.dumps(dict(sorted({**seen, **entry}.items())), indent=1) + "\n", encoding="utf-8")


def measure(network: str, mode: str, scheme: str) -> dict:
    import keras
    import tensorflow as tf

    from hgq import native
    from hgq.layers import QDense, with_gradients

    keras.utils.set_random_seed(1)
    shape, batch, layer = {
        "dense": ((512,), 4096, lambda: keras.layers.Dense(512, "relu")),
        "conv": ((32, 32, 32), 128, lambda: keras.layers.Conv2D(32, 3, padding="same", activation="relu")),
        "qdense": ((512,), 4096, lambda: QDense(512, "relu")),
    }[network]
    model = keras.Sequential([keras.Input(shape), *(layer() for _ in range(LAYERS[network]))])
    model = model if scheme == "none" else with_gradients(model, scheme)
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=mode == "xla")
    model.optimizer.build(model.trainable_variables)
    x, y = tf.random.normal((batch, *shape)), tf.zeros((batch, *(1,) * len(shape)))

    def step(x, y):
        with native.in_graphs(mode == "native"):
            model.train_step((x, y))

    compiled = tf.function(step, jit_compile=mode == "xla", autograph=False, reduce_retracing=True)
    if mode != "xla":
        compiled = compiled.get_concrete_function(*(tf.TensorSpec([None, *part.shape[1:]], tf.float32) for part in (x, y)))
    compiled(*((x, y) if mode == "xla" else (x[:16], y[:16])))
    trim, peaks, seconds = ctypes.CDLL("libc.so.6").malloc_trim, [], []
    for _ in range(2):
        trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before, start = resident("VmRSS"), time.process_time()
        compiled(x, y)
        peaks.append(resident("VmHWM") - before)
        seconds.append(time.process_time() - start)
    return {"megabytes": round(max(peaks)), "cpu_seconds": round(min(seconds), 2), "tensorflow": tf.__version__}


def resident(what: str) -> float:
    """Of this process, in units of 2**20 bytes: ``VmRSS`` now, ``VmHWM`` at its highest."""
    return int(re.findall(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
