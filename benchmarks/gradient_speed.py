"""What gradients on few bits cost in time, against float32 and against plain TensorFlow ops; writes benchmarks/data/gradient_speed.json.

    python benchmarks/gradient_speed.py                      everything, on 1 and on 2 threads; about 10 minutes
    python benchmarks/gradient_speed.py --only products      quantizers, products or steps
    python benchmarks/gradient_speed.py --threads 1 --seconds 2

Milliseconds are CPU time of the process, all threads together. What is compared runs in turns, round after round; a ratio is that of two
neighbours in a round, and of the ratios median and quartiles are kept, so that whoever else uses the machine slows both sides down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "benchmarks" / "data" / "gradient_speed.json"
PARTS = ("quantizers", "products", "steps", "compiled steps")
ELEMENTS = 1 << 21
BATCHES = (1024, 2048, 33_200)
JETS = (16, 64, 32, 32, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; all of them else, and the others stay as they are")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=12.0, help="wall-clock time of each comparison (default: %(default)s)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    parts = options.only or list(PARTS)
    if options.worker:
        print(json.dumps(measure(parts, options.threads[0], options.seconds)))
        return 0
    for threads in options.threads:  # TensorFlow fixes its number of threads when it starts
        for part in parts:
            command = [sys.executable, __file__, "--worker", "--only", part, "--threads", str(threads), "--seconds", str(options.seconds)]
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            env = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": path}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
            if done.returncode:
                return done.returncode
            store(json.loads(done.stdout.splitlines()[-1]))
    show(json.loads(DATA.read_text()))
    return 0


def store(new: dict) -> None:
    seen = json.loads(DATA.read_text()) if DATA.is_file() else {}
    threads = new.pop("threads")
    runs = seen.get("runs", {})
    runs[threads] = {**runs.get(threads, {}), **new.pop("parts")}
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps({**seen, **new, "runs": runs}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def show(data: dict) -> None:
    print(f"{data['cpu']}, {data['instructions']}, TensorFlow {data['tensorflow']}")
    for threads, parts in sorted(data["runs"].items()):
        for part, groups in parts.items():
            for group, rows in groups.items():
                print(f"\n{part}: {group}, {threads} thread{'s' * (threads != '1')}")
                for name, row in rows.items():
                    low, middle, high = row["ratio"]
                    per = f"{row['ns_per_element']:8.2f} ns/element" if "ns_per_element" in row else ""
                    print(f"  {name:<44}{row['ms']:9.2f} ms {per}   {middle:6.2f} of the first ({low:.2f} to {high:.2f})")


def measure(parts: list[str], threads: int, seconds: float) -> dict:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from hgq import native

    functions = {"quantizers": quantizers, "products": products, "steps": steps, "compiled steps": compiled_steps}
    measured = {part: functions[part](seconds) for part in parts}
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    known = {"cpu": cpu, "instructions": native.instructions(), "tensorflow": tf.__version__, "date": time.strftime("%Y-%m-%d")}
    return {**known, "threads": str(threads), "parts": measured}


def in_turns(functions: dict[str, Callable[[], object]], seconds: float, least: int = 7) -> dict:
    """Each function's median CPU time, and the quartiles of its ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(2):
        for function in functions.values():
            function()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    base = next(iter(times.values()))
    rows = {}
    for name, taken in times.items():
        ratios = sorted(a / b for a, b in zip(taken, base, strict=True))
        quartiles = [round(ratios[int(share * (len(ratios) - 1))], 4) for share in (0.25, 0.5, 0.75)]
        rows[name] = {"ms": round(1000 * sorted(taken)[len(taken) // 2], 4), "ratio": quartiles, "rounds": len(taken)}
    return rows


# ---- quantizers ------------------------------------------------------------------------------------------------------------------------


def naive_luq(g):
    """LUQ as one would write it down: logarithm, power, TensorFlow's random numbers."""
    import tensorflow as tf

    alpha = tf.reduce_max(tf.abs(g)) / 64.0
    y = tf.abs(g) / alpha
    power = tf.pow(2.0, tf.clip_by_value(tf.floor(tf.math.log(y) / tf.math.log(2.0)), 0.0, 6.0))
    low, gap = tf.where(y < 1.0, 0.0, power), tf.where(y < 1.0, 1.0, power)
    up = tf.cast(tf.random.uniform(tf.shape(g)) < (y - low) / gap, tf.float32)
    return tf.sign(g) * tf.minimum(low + gap * up, 64.0) * alpha


def quantizers(seconds: float) -> dict:
    import tensorflow as tf

    from hgq import gradients, native

    g = tf.exp(2.0 * tf.random.normal((ELEMENTS // 512, 512))) * tf.sign(tf.random.normal((ELEMENTS // 512, 512)))
    seed, groups = tf.constant([3, 4]), {}
    for name in ("luq4", "int4"):
        quantize = gradients.get(name).quantize
        graph, xla = (tf.function(lambda g, s, q=quantize: q(g, s), jit_compile=jit) for jit in (False, True))
        with native.in_graphs():
            ops = tf.function(lambda g, s, q=quantize: q(g, s))
            ops(g, seed)
        versions = {
            "reference, graph": lambda graph=graph: graph(g, seed),
            "reference, XLA": lambda xla=xla: xla(g, seed),
            "native op": lambda ops=ops: ops(g, seed),
        }
        if name == "luq4":
            written_down = tf.function(naive_luq)
            versions = {"naive, eager": lambda: naive_luq(g), "naive, graph": lambda graph=written_down: graph(g), **versions}
        rows = in_turns(versions, seconds)
        for row in rows.values():
            row["ns_per_element"] = round(1e6 * row["ms"] / ELEMENTS, 3)
        groups[f"{name} of {ELEMENTS:,} elements"] = rows
    return groups


# ---- products --------------------------------------------------------------------------------------------------------------------------


def products(seconds: float) -> dict:
    """The whole backward pass of a 512-1024-512 MLP with ReLU between: gradients of both kernels and of both layers' data."""
    import tensorflow as tf

    from hgq import gradients, native

    def tensor(*shape):
        return tf.random.normal(shape) * shape[0] ** -0.5

    x, w1, w2, g = tf.random.normal((2048, 512)), tensor(512, 1024), tensor(1024, 512), tensor(2048, 512)
    hidden = tf.nn.relu(x @ w1)

    def float32(x, hidden, w1, w2, g):
        back = tf.matmul(g, w2, transpose_b=True)
        between = tf.where(hidden > 0, back, 0.0)
        return tf.matmul(hidden, g, transpose_a=True), tf.matmul(x, between, transpose_a=True), tf.matmul(between, w1, transpose_b=True)

    def integers(scheme):
        from hgq.gradients.products import data_gradient, kernel_gradient

        quantizer = gradients.get(scheme.quantizer)

        def backward(x, hidden, w1, w2, g):
            """With everything that a step quantizes: data in the forward pass, kernels, gradients."""
            seeds = [tf.constant([1, number]) for number in range(6)]
            kept, kept_hidden = scheme.operand(x, seeds[0]), scheme.operand(hidden, seeds[1])
            codes = quantizer.codes(g, seeds[2])
            back = data_gradient(codes, scheme.operand(w2, seeds[3]))
            between = quantizer.codes(tf.where(hidden > 0, back, 0.0), seeds[4])
            return (
                kernel_gradient(kept_hidden, codes),
                kernel_gradient(kept, between),
                data_gradient(between, scheme.operand(w1, seeds[5])),
            )

        return backward

    def step(scheme):
        """Forward and backward, by the tape."""
        linear = gradients.MatrixProduct()

        def both(x, hidden, w1, w2, g):
            product = linear if scheme is None else (lambda a, w, n: scheme.product(linear, a, w, tf.constant([1, n])))
            with tf.GradientTape() as tape:
                tape.watch([x, w1, w2])
                inner = product(x, w1) if scheme is None else product(x, w1, 1)
                y = product(tf.nn.relu(inner), w2) if scheme is None else product(tf.nn.relu(inner), w2, 2)
            return tape.gradient(y, [x, w1, w2], output_gradients=g)

        return both

    given, groups = (x, hidden, w1, w2, g), {}
    schemes = {text: gradients.get(text) for text in ("luq4_int8", "luq4_int8(bits=7)", "luq4_int8(bits=4)")}
    with native.in_graphs():
        compared = {
            "backward pass": {"float32": float32, **{text: integers(scheme) for text, scheme in schemes.items()}},
            "forward and backward pass": {
                "float32": step(None),
                "luq4": step(gradients.get("luq4")),
                **{t: step(s) for t, s in schemes.items()},
            },
        }
        for title, functions in compared.items():
            graphs = {name: tf.function(function) for name, function in functions.items()}
            rows = in_turns({name: (lambda graph=graph: graph(*given)) for name, graph in graphs.items()}, seconds)
            groups[f"{title} of an MLP 512-1024-512, batch 2048"] = rows
    groups["what the backward pass is made of"] = in_turns(profile(schemes["luq4_int8"], float32, given), seconds)
    with native.in_graphs(False):
        plain = tf.function(integers(schemes["luq4_int8"]))
        graph = tf.function(float32)
        rows = in_turns({"float32": lambda: graph(*given), "luq4_int8, reference": lambda: plain(*given)}, seconds / 2)
        groups["the same without native ops"] = rows
    return groups


def profile(scheme, float32: Callable, given: tuple) -> dict[str, Callable[[], object]]:
    """The parts of the backward pass one by one, eagerly: where its time goes."""
    import tensorflow as tf

    from hgq import gradients
    from hgq.gradients.products import data_gradient, kernel_gradient

    x, hidden, w1, w2, g = given
    quantizer, seed, between = gradients.get(scheme.quantizer), tf.constant([1, 2]), tf.random.normal(hidden.shape)
    kept, kept_hidden, k1, k2 = (scheme.operand(part, seed) for part in (x, hidden, w1, w2))
    codes, inner = quantizer.codes(g, seed), quantizer.codes(between, seed)
    return {
        "float32, all of it": lambda: float32(*given),
        "data and kernels to integers": lambda: [scheme.operand(part, seed) for part in (x, hidden, w1, w2)],
        "gradients to codes": lambda: [quantizer.codes(part, seed) for part in (g, between)],
        "products for the data": lambda: [data_gradient(codes, k2), data_gradient(inner, k1)],
        "products for the kernels": lambda: [kernel_gradient(kept_hidden, codes), kernel_gradient(kept, inner)],
    }


# ---- training steps --------------------------------------------------------------------------------------------------------------------


def steps(seconds: float) -> dict:
    """In TensorFlow's graph, with native ops."""
    return jet_steps(seconds, ("none", "luq4", "luq4_int8"), jit_compile=False)


def compiled_steps(seconds: float) -> dict:
    """Under XLA, which has no native ops."""
    return jet_steps(seconds, ("none", "luq4"), jit_compile=True)


def jet_steps(seconds: float, schemes: tuple[str, ...], jit_compile: bool) -> dict:
    """A training step of the jet MLP of HGQ layers: Keras' own train_step, as one function."""
    import keras
    import numpy as np
    import tensorflow as tf

    from hgq import native
    from hgq.layers import QDense

    def compiled(scheme):
        keras.utils.set_random_seed(1)
        layers = [QDense(n, "relu" if n > 5 else None, gradients=scheme, gradient_seed=n) for n in JETS[1:]]
        model = keras.Sequential([keras.Input((JETS[0],)), *layers])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit_compile)

        def step(x, y):
            with native.in_graphs(not jit_compile):
                model.train_step((x, y))

        return tf.function(step, jit_compile=jit_compile, autograph=False)

    rng, groups = np.random.default_rng(1), {}
    functions = {scheme: compiled(scheme) for scheme in schemes}
    for batch in BATCHES:
        x, y = tf.constant(rng.normal(size=(batch, JETS[0])), tf.float32), tf.constant(rng.integers(0, 5, batch))
        calls = {scheme: (lambda f=f, x=x, y=y: f(x, y)) for scheme, f in functions.items()}
        groups[f"jet MLP, batch {batch:,}, {'XLA' if jit_compile else 'graph'}"] = in_turns(calls, seconds)
    return groups


if __name__ == "__main__":
    raise SystemExit(main())
