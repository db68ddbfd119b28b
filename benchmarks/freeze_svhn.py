"""Time and memory of freezing an SVHN-sized conv net, and of its golden model on 1,000 images; compared with Keras, bit by bit.

    python benchmarks/freeze_svhn.py

Convolutions with 16, 16 and 24 filters of 3x3, maximum pooling of 2x2 behind each, dense layers of 42, 64 and 10, on 32x32x3: the net of
arXiv:2006.10159 that HGQ and hls4ml are measured on. Every element has formats of its own. Weights and images are random.
"""

from __future__ import annotations

import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QConv2D, QDense, QMaxPooling2D

IMAGES = 1000


def main() -> None:
    keras.utils.set_random_seed(0)
    layers: list[keras.layers.Layer] = []
    for filters in (16, 16, 24):
        layers += [QConv2D(filters, 3, activation="relu"), QMaxPooling2D(2)]
    layers += [keras.layers.Flatten(), QDense(42, "relu"), QDense(64, "relu"), QDense(10)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *layers])
    x = np.random.default_rng(0).uniform(0, 1, (IMAGES, 32, 32, 3)).astype(np.float32)
    model(x[:32], training=True)

    start = time.perf_counter()
    graph = freeze(model, x[:200])
    frozen = time.perf_counter()
    (golden,) = interpret.run(graph, x).values()
    done = time.perf_counter()
    wrong = int((golden != model.predict(x, verbose=0)).any(axis=1).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"freeze {frozen - start:.1f} s, golden model of {IMAGES} images {done - frozen:.1f} s, peak memory of the process {peak:.2f} GiB"
    )
    print(f"{wrong} of {IMAGES} images differ from Keras")


if __name__ == "__main__":
    main()
