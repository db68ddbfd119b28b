"""What a product of matrices costs natively and by TensorFlow, alone in a graph: those of a training step of the jet MLP, or others.

    python benchmarks/matrix_products.py
    python benchmarks/matrix_products.py --threads 2 --batches 128 --kernels 64x64,128x128

Microseconds of CPU time of one product: y = x w, dx = g w', dw = x' g. Both run in turns, graphs of many products and of few; what one
takes is their difference, so that starting a graph does not count. The ratio is the median of those of neighbours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FORMS = {"x w": (False, False), "g w'": (False, True), "x' g": (True, False)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default="16x64,64x32,32x32,32x5", help="inputs x outputs (default: %(default)s)")
    parser.add_argument("--batches", default="128,1024,2048,33200", help="batch sizes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds (default: %(default)s)")
    options = parser.parse_args()

    import numpy as np
    import tensorflow as tf

    from hgq import native

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # it would do equal products once
    ops = native.ops_for(tf.zeros(()))
    if ops is None:
        raise SystemExit(f"no native ops here: {native.state().text}")
    rng = np.random.default_rng(0)
    print("batch  kernel   " + "   ".join(f"{form:>4}: native  TensorFlow ratio (wall)" for form in FORMS))
    for batch in map(int, options.batches.split(",")):
        all_of = {"native": 0.0, "TensorFlow": 0.0}
        for kernel in options.kernels.split(","):
            inputs, outputs = map(int, kernel.split("x"))
            x, w, g = (tf.constant(rng.normal(size=s), tf.float32) for s in ((batch, inputs), (inputs, outputs), (batch, outputs)))
            line = f"{batch:<6} {kernel:8}"
            for (left, right), operands in zip(FORMS.values(), ((x, w), (g, w), (x, g)), strict=True):
                turned = {"transpose_a": left, "transpose_b": right}
                own = measured(lambda a, b, turned=turned: ops.hgqc_mat_mul(a, b, **turned), operands)
                peer = measured(lambda a, b, turned=turned: tf.matmul(a, b, **turned), operands)
                pairs = [(own(), peer()) for _ in range(options.rounds)]
                taken = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
                ratio, wall = (statistics.median(own[clock] / peer[clock] for own, peer in pairs) for clock in (0, 1))
                line += f"{taken[0]:16.1f} {taken[1]:9.1f} {ratio:8.2f} ({wall:.2f})"
                for name, value in zip(all_of, taken, strict=True):
                    all_of[name] += value
            print(line, flush=True)
        print(f"{batch:<6} all      " + ", ".join(f"{name} {value:.1f} us" for name, value in all_of.items()), flush=True)
    return 0


def measured(product: Callable[..., Any], operands: tuple[Any, Any]) -> Callable[[], tuple[float, float]]:
    """Measures one product, in microseconds of CPU and wall time."""
    import tensorflow as tf

    work = float(operands[0].shape[0]) * operands[0].shape[1] * operands[1].shape[1]
    few = 10
    many = few + max(10, min(300, int(1e9 / work)))

    def chain(length: int) -> Callable[[], Any]:
        @tf.function(autograph=False, jit_compile=False)
        def graph(a: Any, b: Any) -> Any:
            y = product(a, b)
            for _ in range(length - 1):
                with tf.control_dependencies([y]):
                    y = product(a, b)
            return y

        graph(*operands)
        return lambda: graph(*operands)

    short, long = chain(few), chain(many)

    def once() -> tuple[float, float]:
        spent = []
        for graph in (short, long):
            cpu, wall = time.process_time(), time.perf_counter()
            graph()
            spent.append((time.process_time() - cpu, time.perf_counter() - wall))
        first, second = (1e6 * max(after - before, 1e-9) / (many - few) for before, after in zip(*spent, strict=True))
        return first, second

    return once


if __name__ == "__main__":
    sys.exit(main())
