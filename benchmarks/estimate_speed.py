"""How long `hgq estimate` takes: a jet tagger, and the SVHN conv net of arXiv:2006.10159 with the sparsity of trained HGQ models.

    python benchmarks/estimate_speed.py

Prints CPU seconds, imports included. Weights are random: a share is not 0, of a few bits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hgq.ir import file
from hgq.ir.build import GraphBuilder, Ref
from hgq.ir.graph import Graph
from hgq.numerics import Fixed

CODE = """
import resource, sys
from hgq.cli import main
try:
    main()
finally:
    print("CPU", resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)
"""


def weights(rng: np.random.Generator, shape: tuple[int, ...], alive: float) -> np.ndarray:
    return rng.integers(-4, 5, shape) * (rng.random(shape) < alive)


def dense(b: GraphBuilder, rng: np.random.Generator, y: Ref, units: int, alive: float, name: str) -> Ref:
    with b.layer(name):
        w = weights(rng, (y.shape[-1], units), alive)
        y = b.op("relu", b.op("matmul", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"), name="matmul"), name="relu")
        return b.quantize(y, Fixed(0, 3, 2).broadcast_to(y.shape), "RND", "SAT", "oq")


def jets() -> Graph:
    rng, b = np.random.default_rng(0), GraphBuilder("jets")
    y = b.input("x", Fixed(1, 3, 3).broadcast_to((16,)), "RND", "WRAP")
    for number, units in enumerate((64, 32, 32, 5)):
        y = dense(b, rng, y, units, 0.35, f"dense_{number}")
    return b.graph(y)


def svhn() -> Graph:
    rng, b = np.random.default_rng(0), GraphBuilder("svhn")
    y = b.input("x", Fixed(0, 0, 4).broadcast_to((32, 32, 3)), "RND", "WRAP")
    for number, filters in enumerate((16, 16, 24)):
        with b.layer(f"conv_{number}"):
            w = weights(rng, (3, 3, y.shape[-1], filters), 0.15)
            attrs = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}
            y = b.op("conv", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"), name="conv", **attrs)
            y = b.op("relu", y, name="relu")
            y = b.quantize(y, Fixed(0, 2, 2).broadcast_to(y.shape), "RND", "SAT", "oq")
        with b.layer(f"pool_{number}"):
            y = b.op("max_pool", y, name="pool", pool=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    y = b.op("reshape", y, name="flatten", shape=(int(np.prod(y.shape)),))
    for number, units in enumerate((42, 64, 10)):
        y = dense(b, rng, y, units, 0.15, f"dense_{number}")
    return b.graph(y)


def main() -> None:
    wanted = [(jets, "rtl"), (jets, "hls4ml"), (svhn, "hls4ml"), (svhn, "rtl")]
    with tempfile.TemporaryDirectory() as folder:
        for make, backend in wanted:
            path = file.save(make(), Path(folder) / f"{make.__name__}.hgq", force=True)
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", CODE, "estimate", str(path), "--backend", backend], capture_output=True, text=True, check=True
            )
            total = next(line for line in done.stdout.splitlines() if line.strip().startswith("total"))
            cpu = float(done.stderr.split("CPU ")[1].split()[0])
            print(f"{make.__name__} {backend}: {cpu:.1f} s CPU, {time.perf_counter() - start:.1f} s;{total}")


if __name__ == "__main__":
    main()
