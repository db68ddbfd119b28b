"""Real QKeras models with their own predictions, for `test_qkeras.py`. Runs where QKeras is, never in hgqc's environment.

    python make_qkeras_references.py FOLDER [NAME ...]

writes, for each variant, ``NAME.h5``, ``NAME.keras`` or ``NAME.json`` + ``NAME.weights.h5``, and ``NAME.npz`` with what the model predicts
(``y``) for `samples`, which the test draws again. With ``TF_USE_LEGACY_KERAS=1`` and QKeras 0.9 it makes those of `LEGACY` (as ``.h5``).
"""

import os
import sys
from pathlib import Path

import numpy as np

SAMPLES = 1000


def samples(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Inputs: multiples of 1/64 between -4 and 4."""
    rng = np.random.default_rng(seed)
    return (np.clip(np.rint(rng.normal(0.0, 1.0, (SAMPLES, *shape)) * 64), -256, 255) / 64).astype(np.float32)


def build(name: str):
    import qkeras as q

    if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
        import tf_keras as keras
    else:
        import keras
    layers = keras.layers

    def mlp(kernel, activation, bias="quantized_bits(6,1,alpha=1)", inputs=12, hidden=(16, 10), outputs=4, first="quantized_bits(7,2)"):
        x = source = layers.Input((inputs,), name="features")
        if first:
            x = q.QActivation(first, name="q_in")(x)
        for number, units in enumerate(hidden):
            x = q.QDense(units, kernel_quantizer=kernel, bias_quantizer=bias, name=f"dense_{number}")(x)
            x = q.QActivation(activation, name=f"act_{number}")(x)
        y = q.QDense(outputs, kernel_quantizer=kernel, bias_quantizer=bias, name="out")(x)
        return keras.Model(source, y, name=name)

    def image(*parts, shape=(8, 8, 2)):
        return keras.Sequential([layers.Input(shape), q.QActivation("quantized_bits(6,2)", name="q_in"), *parts], name=name)

    fixed, bias = "quantized_bits(5,0,alpha=1)", "quantized_bits(6,1,alpha=1)"
    if name == "mlp_bits":
        return mlp(fixed, "quantized_relu(6,2)")
    if name == "mlp_no_input_quantizer":
        return mlp(fixed, "quantized_relu(6,2)", first=None)
    if name == "mlp_auto_po2":
        return mlp("quantized_bits(4,0)", "quantized_bits(6,2)")
    if name == "mlp_numeric_alpha":
        return mlp(q.quantized_bits(5, 1, 1, alpha=0.5), q.quantized_bits(6, 2, keep_negative=False))
    if name == "mlp_ternary":
        return mlp(q.ternary(alpha=1.0, threshold=0.3), "quantized_tanh(6)")
    if name == "mlp_ternary_auto_po2":
        return mlp("ternary(alpha='auto_po2')", "quantized_relu(5,3)")
    if name == "mlp_stochastic":
        return mlp("stochastic_ternary('auto_po2')", "stochastic_binary(alpha=1.0)", hidden=(16,))
    if name == "mlp_binary":
        return mlp("binary(alpha='auto_po2')", q.binary(alpha=1.0))
    if name == "mlp_binary_01":
        return mlp(q.binary(use_01=True, alpha=0.5), q.ternary(alpha=0.25, threshold=0.5))
    if name == "mlp_po2":
        return mlp("quantized_po2(4)", "quantized_relu(6,3)", bias="quantized_po2(4,2)")
    if name == "mlp_relu_po2":
        return mlp("quantized_po2(4,1)", "quantized_relu_po2(3,4)")
    if name == "mlp_linear":
        return mlp("quantized_linear(5,0)", "quantized_bits(7,3)", bias="quantized_linear(6,1)")
    if name == "mlp_leaky":
        return mlp(fixed, q.quantized_relu(7, 2, negative_slope=0.25))
    if name == "mlp_sigmoid":
        return mlp(fixed, "quantized_sigmoid(6)")
    if name == "mlp_relu_sigmoid":
        return mlp(fixed, "quantized_relu(6,1,1)")
    if name == "mlp_symmetric_sigmoid_tanh":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QDense(8, activation=q.quantized_sigmoid(5, symmetric=True), kernel_quantizer=fixed, bias_quantizer=bias)(x)
        x = q.QDense(8, activation=q.quantized_tanh(5, symmetric=True), kernel_quantizer=fixed, use_bias=False)(x)
        return keras.Model(source, q.QDense(3, activation="quantized_relu(8,4)", kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "mlp_real_sigmoid_tanh":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QDense(8, kernel_quantizer=fixed, bias_quantizer=bias)(x)
        x = q.QActivation(q.quantized_sigmoid(7, use_real_sigmoid=True))(q.QActivation("quantized_bits(10,3)")(x))
        x = q.QDense(8, kernel_quantizer=fixed, bias_quantizer=bias)(x)
        x = q.QActivation(q.quantized_tanh(7, use_real_tanh=True))(q.QActivation("quantized_bits(10,3)")(x))
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "mlp_auto":
        return mlp("quantized_bits(4,0,alpha='auto')", "quantized_relu(6,2)")
    if name == "mlp_stock_relu":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QDense(10, kernel_quantizer=fixed, bias_quantizer=bias)(x)
        x = layers.Dropout(0.2)(layers.ReLU()(x))
        x = q.QActivation("quantized_bits(7,3)")(x)
        return keras.Model(source, layers.Activation("softmax")(q.QDense(4, kernel_quantizer=fixed, bias_quantizer=bias)(x)), name=name)
    if name == "conv2d":
        return image(
            q.QConv2D(6, 3, kernel_quantizer="quantized_bits(4,0)", bias_quantizer=bias, activation="quantized_relu(5,2)"),
            layers.MaxPooling2D(2),
            q.QConv2D(4, (2, 2), strides=1, padding="same", kernel_quantizer=fixed, use_bias=False),
            q.QActivation("quantized_relu(6,3)"),
            layers.Flatten(),
            q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias),
        )
    if name == "conv1d":
        parts = [
            q.QConv1D(6, 3, strides=2, padding="same", kernel_quantizer="ternary(alpha='auto_po2')", bias_quantizer=bias),
            q.QActivation("quantized_relu(5,2)"),
            q.QConv1D(4, 3, dilation_rate=2, kernel_quantizer=fixed, bias_quantizer=bias),
            q.QActivation("quantized_bits(7,3)"),
            layers.Reshape((-1,)),
            q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias),
        ]
        return image(*parts, shape=(16, 3))
    if name == "transpose":
        return image(
            q.QConv2D(4, 3, strides=2, kernel_quantizer=fixed, bias_quantizer=bias, activation="quantized_relu(6,2)"),
            q.QConv2DTranspose(5, 3, strides=2, kernel_quantizer="quantized_bits(4,0)", bias_quantizer=bias),
            q.QActivation("quantized_relu(6,3)"),
            q.QConv2DTranspose(3, (2, 3), padding="same", kernel_quantizer=fixed, use_bias=False),
            layers.GlobalMaxPooling2D(),
        )
    if name == "lstm":
        weights = {"kernel_quantizer": fixed, "recurrent_quantizer": fixed, "bias_quantizer": bias, "state_quantizer": "quantized_bits(8)"}
        x = source = layers.Input((5, 3), name="sequence")
        x = q.QLSTM(6, activation="quantized_tanh(6)", recurrent_activation="quantized_sigmoid(6)", **weights, name="memory")(x)
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "depthwise":
        return image(
            q.QDepthwiseConv2D(3, depth_multiplier=2, depthwise_quantizer="quantized_bits(4,0)", bias_quantizer=bias),
            q.QActivation("quantized_relu(6,2)"),
            layers.AveragePooling2D(2),
            q.QConv2D(4, 1, kernel_quantizer=fixed, bias_quantizer=bias),
        )
    if name == "separable":
        pointwise = {"depthwise_quantizer": fixed, "pointwise_quantizer": "quantized_bits(4,0)"}
        return image(
            q.QSeparableConv2D(5, 3, **pointwise, bias_quantizer=bias, activation="quantized_relu(6,2)"),
            layers.GlobalMaxPooling2D(),
            q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias),
        )
    if name == "mean_pools":
        return image(
            q.QConv2D(4, 3, kernel_quantizer=fixed, bias_quantizer=bias, activation="quantized_relu(6,2)"),
            q.QAveragePooling2D((3, 1), strides=(1, 1), average_quantizer="quantized_bits(7,0,alpha=1)", activation="quantized_bits(6,2)"),
            q.QAveragePooling2D(2, average_quantizer="quantized_bits(8,0,alpha=1)"),
            q.QActivation("quantized_bits(8,2)"),
            q.QGlobalAveragePooling2D(average_quantizer="quantized_bits(9,0,alpha=1)"),
            q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias),
        )
    if name == "batch_norm_po2":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QDense(10, kernel_quantizer=fixed, use_bias=False)(x)
        quantizers = {"gamma_quantizer": None, "variance_quantizer": None, "inverse_quantizer": "quantized_relu_po2(4)"}
        x = q.QBatchNormalization(**quantizers, beta_quantizer="quantized_po2(4)", mean_quantizer="quantized_bits(6,1,alpha=1)")(x)
        x = q.QActivation("quantized_relu(6,2)")(x)
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "batch_norm_default":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QBatchNormalization()(q.QDense(10, kernel_quantizer=fixed, use_bias=False)(x))
        x = q.QActivation("quantized_relu(6,2)")(x)
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "dense_batchnorm":
        x = source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(x)
        x = q.QDenseBatchnorm(10, kernel_quantizer="quantized_bits(6,1,alpha=1)", bias_quantizer="quantized_bits(8,3,alpha=1)")(x)
        x = q.QActivation("quantized_relu(6,3)")(x)
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(x), name=name)
    if name == "conv_batchnorm":
        quantizers = {"kernel_quantizer": "quantized_bits(6,1)", "bias_quantizer": "quantized_bits(8,3,alpha=1)"}
        depthwise = {"depthwise_quantizer": "quantized_bits(6,1,alpha=1)", "bias_quantizer": "quantized_bits(8,3,alpha=1)"}
        return image(
            q.QConv2DBatchnorm(5, 3, **quantizers, folding_mode="ema_stats_folding"),
            q.QActivation("quantized_relu(6,3)"),
            q.QDepthwiseConv2DBatchnorm(3, **depthwise, use_bias=False),
            q.QActivation("quantized_relu(6,3)"),
            layers.Flatten(),
            q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias),
        )
    if name == "branches":
        source = layers.Input((12,), name="features")
        x = q.QActivation("quantized_bits(7,2)")(source)
        a = q.QActivation("quantized_relu(5,2)")(q.QDense(8, kernel_quantizer=fixed, bias_quantizer=bias)(x))
        b = q.QActivation("quantized_bits(6,2)")(q.QDense(8, kernel_quantizer="quantized_po2(4)", bias_quantizer=bias)(x))
        shared = q.QDense(8, kernel_quantizer="quantized_bits(4,0)", bias_quantizer=bias, name="shared")
        y = layers.Add()([q.QActivation("quantized_bits(7,3)")(shared(a)), q.QActivation("quantized_bits(7,3)")(shared(b)), b])
        y = layers.Concatenate()([q.QActivation("quantized_relu(6,3)")(y), layers.Maximum()([a, b])])
        return keras.Model(source, q.QDense(3, kernel_quantizer=fixed, bias_quantizer=bias)(y), name=name)
    raise SystemExit(f"no variant {name}")


# How each is saved.
VARIANTS = {
    "mlp_bits": "h5",
    "mlp_no_input_quantizer": "keras",
    "mlp_auto_po2": "keras",
    "mlp_numeric_alpha": "h5",
    "mlp_ternary": "keras",
    "mlp_ternary_auto_po2": "h5",
    "mlp_stochastic": "keras",
    "mlp_binary": "h5",
    "mlp_binary_01": "keras",
    "mlp_po2": "json",
    "mlp_relu_po2": "keras",
    "mlp_linear": "keras",
    "mlp_leaky": "keras",
    "mlp_sigmoid": "keras",
    "mlp_relu_sigmoid": "keras",
    "mlp_symmetric_sigmoid_tanh": "keras",
    "mlp_real_sigmoid_tanh": "keras",
    "mlp_auto": "keras",
    "mlp_stock_relu": "keras",
    "conv2d": "h5",
    "conv1d": "keras",
    "transpose": "keras",
    "lstm": "keras",
    "depthwise": "keras",
    "separable": "keras",
    "mean_pools": "keras",
    "batch_norm_po2": "keras",
    "batch_norm_default": "keras",
    "dense_batchnorm": "keras",
    "conv_batchnorm": "keras",
    "branches": "keras",
}
LEGACY = ("mlp_bits", "mlp_auto_po2", "mlp_ternary_auto_po2", "conv2d", "conv_batchnorm", "branches")


def main(folder: Path, names: list[str]) -> None:
    legacy = os.environ.get("TF_USE_LEGACY_KERAS") == "1"
    for name in names or (LEGACY if legacy else VARIANTS):
        model = build(name)
        rng = np.random.default_rng(7)
        for variable in model.weights:
            path = getattr(variable, "path", variable.name)
            shape = tuple(variable.shape)
            if "iteration" in path:
                continue
            if "variance" in path:
                value = rng.uniform(0.5, 2.0, shape)
            elif "gamma" in path:
                value = rng.uniform(0.5, 1.5, shape)
            else:
                value = rng.normal(0.0, 0.4, shape)
            variable.assign(value.astype(np.float32))
        kind = "h5" if legacy else VARIANTS[name]
        target = folder / (f"legacy_{name}" if legacy else name)
        x = samples(tuple(model.inputs[0].shape[1:]), 11)
        if kind == "json":
            target.with_suffix(".json").write_text(model.to_json())
            model.save_weights(f"{target}.weights.h5")
        else:
            model.save(target.with_suffix(f".{kind}"))
        np.savez_compressed(target.with_suffix(".npz"), y=np.asarray(model.predict(x, verbose=0), np.float32))
        print("made", target.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
