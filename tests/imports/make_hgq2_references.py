"""Real HGQ2 models with their own predictions, for `test_hgq2.py`. Runs where HGQ2 is, never in hgqc's environment.

    python make_hgq2_references.py FOLDER [NAME ...]

writes ``NAME.keras`` and ``NAME.npz`` with what the model predicts (``y``) for `samples`. Bits and weights are random, dead ones too.
"""

import os
import sys
from pathlib import Path

import numpy as np

SAMPLES = 1000


def samples(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Inputs: real numbers, float32."""
    return np.random.default_rng(seed).normal(0.0, 1.5, (SAMPLES, *shape)).astype(np.float32)


def build(name: str):
    import keras

    from hgq import layers as q
    from hgq.config import QuantizerConfig

    def per_tensor(**arguments):
        return QuantizerConfig("kif", "datalane", heterogeneous_axis=(), **arguments)

    if name == "mlp":
        x = source = keras.Input((12,), name="features")
        x = q.QDense(16, activation="relu", name="a")(x)
        x = q.QDense(16, activation="relu", name="b")(x)
        return keras.Model(source, q.QDense(4, name="c")(x), name=name)
    if name == "mlp_saturating":
        data = QuantizerConfig("kif", "datalane", overflow_mode="SAT", round_mode="RND_CONV", i0=2, f0=4)
        weight = QuantizerConfig("kif", "weight", overflow_mode="SAT", round_mode="TRN", i0=1, f0=5)
        x = source = keras.Input((12,), name="features")
        x = q.QDense(16, activation="relu", iq_conf=data, kq_conf=weight, name="a")(x)
        data = QuantizerConfig("kbi", "datalane", overflow_mode="SAT_SYM", b0=6, i0=3)
        out = QuantizerConfig("kif", "datalane", overflow_mode="SAT", i0=5, f0=1)
        x = q.QDense(4, iq_conf=data, use_bias=False, enable_oq=True, oq_conf=out, name="b")(x)
        return keras.Model(source, x, name=name)
    if name == "jets":
        x = source = keras.Input((16,), name="features")
        for number, units in enumerate((16, 8)):
            x = q.QEinsumDenseBatchnorm("bc,cC->bC", units, bias_axes="C", activation="relu", name=f"dense_{number}")(x)
        return keras.Model(source, q.QDense(5, name="out")(x), name=name)
    if name == "conv":
        parts = [
            q.QConv2D(4, 3, activation="relu", iq_conf=per_tensor(i0=3, f0=4), name="a"),
            keras.layers.MaxPooling2D(2),
            q.QConv2D(3, (2, 2), strides=1, padding="same", iq_conf=per_tensor(i0=4, f0=3), name="b"),
            keras.layers.Flatten(),
            q.QDense(3, name="c"),
        ]
        return keras.Sequential([keras.layers.Input((8, 8, 2)), *parts], name=name)
    if name == "branches":
        x = source = keras.Input((10, 3), name="sequence")
        a = q.QConv1D(4, 3, padding="same", activation="relu", name="a")(x)
        b = q.QBatchNormalization(name="norm")(q.QConv1D(4, 1, name="b")(x))
        x = q.QAdd(name="add")([a, b])
        x = q.QMultiply(name="product")([x, q.QMaximum(name="maximum")([a, b])])
        x = q.QEinsumDense("btc,cd->btd", (10, 2), bias_axes="d", name="einsum")(x)
        return keras.Model(
            source, q.QDense(3, name="out")(keras.layers.Flatten()(q.Quantizer(per_tensor(i0=3, f0=2), name="cut")(x))), name=name
        )
    if name == "tables":
        x = source = keras.Input((12,), name="features")
        x = q.QUnaryFunctionLUT("tanh", name="curve")(q.QDense(8, name="a")(x))
        x = q.QUnaryFunctionLUT("sigmoid", iq_conf=per_tensor(i0=2, f0=4), allow_heterogeneous_table=False, name="gate")(
            q.QDense(6, name="b")(x)
        )
        return keras.Model(source, q.QDense(4, name="c")(x), name=name)
    if name == "softmax":
        x = source = keras.Input((12,), name="features")
        x = q.QSoftmax(enable_iq=True, input_scaler=0.5, name="stable")(q.QDense(6, activation="relu", name="a")(x))
        x = q.QSoftmax(stable=False, enable_iq=True, name="plain")(q.QDense(5, name="b", iq_conf=per_tensor(i0=1, f0=7))(x))
        return keras.Model(source, q.QDense(3, name="c", iq_conf=per_tensor(i0=1, f0=8))(x), name=name)
    if name == "attention":
        source = keras.Input((4, 6), name="sequence")
        x = q.QMultiHeadAttention(2, 3, name="heads")(source, source)
        return keras.Model(source, q.QDense(3, name="c")(x), name=name)
    if name == "gru":
        source = keras.Input((4, 6), name="sequence")
        return keras.Model(source, q.QDense(3, name="c")(q.QGRU(5, name="memory")(source)), name=name)
    raise SystemExit(f"no variant {name}")


VARIANTS = ("mlp", "mlp_saturating", "jets", "conv", "branches", "tables", "softmax")
REFUSED = ("attention", "gru")


def scatter(model, seed: int, tables: bool = False) -> None:
    """Random weights and bits, the kind of numbers that training leaves; a format that all elements share stays if there are tables."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.name.rpartition("/")[2], tuple(variable.shape)
        inside = "quantizer" in variable.path
        if inside and tables and int(np.prod(shape)) == 1:
            continue
        if inside and name in ("b", "f"):
            value = rng.uniform(-0.4, 7.0, shape)
        elif inside and name == "i":
            value = rng.uniform(-1.0, 3.4, shape)
        elif inside and name == "k":
            continue
        elif "variance" in name:
            value = rng.uniform(0.5, 2.0, shape)
        elif "gamma" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif name in ("kernel", "bias", "moving_mean", "beta") and shape and "ebops" not in variable.path:
            value = rng.normal(0.0, 0.5, shape)
        else:
            continue
        variable.assign(np.asarray(value, np.float32))


def main(folder: Path, names: list[str]) -> None:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from hgq.utils import trace_minmax

    for name in names or (*VARIANTS, *REFUSED):
        model = build(name)
        x = samples(tuple(model.inputs[0].shape[1:]), 21)
        scatter(model, 5, name in ("tables", "softmax"))
        trace_minmax(model, x[:500], verbose=False)  # the other samples may wrap
        model.save(folder / f"{name}.keras")
        np.savez_compressed(folder / f"{name}.npz", y=np.asarray(model.predict(x, verbose=0), np.float32))
        print("made", name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
