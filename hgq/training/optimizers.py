"""Optimizers that can move bits faster than weights.

A weight has to move by a fraction of itself, a bitwidth by several whole numbers, and under Adam both move by about the learning rate a
step. With one rate for both, most of a short run is spent waiting for the bits: to force them, beta must rise so far that it does harm.
On the jets of the package, `bit_rate` 8 instead of 1 is worth a whole percent of accuracy at equal epochs and EBOPs.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import keras
import tensorflow as tf

from hgq import native
from hgq.errors import ConfigError
from hgq.quantizers.constraints import Between

BITS = ("b", "i", "f", "m", "e", "e0")
"""Names of the trained variables of a quantizer."""


class _BitRate:
    """Mixed into an optimizer: multiplies the learning rate of bit variables."""

    bit_rate: float

    def build(self, variables: Any) -> None:
        """As in Keras, and outside of the graph that `fit` may be tracing.

        A variable that is made inside of it costs a conditional with two graphs, and all is traced again without them: of the first step of
        a small conv net that was a third.
        """
        with nullcontext() if tf.distribute.has_strategy() else tf.init_scope():
            super().build(variables)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's update, as Keras calls it."""
        super().update_step(gradient, variable, learning_rate * self.rate_of(variable))  # type: ignore[misc]

    def rate_of(self, variable: Any) -> float:
        """By how much this variable's learning rate is multiplied."""
        # Keras hands over TensorFlow's variable, which is called "b:0", and on another device "b/replica_1:0"
        name = re.sub(r"/replica_\d+$", "", variable.name.split(":")[0]).split("/")[-1]
        return self.bit_rate if name in BITS else 1.0

    def get_config(self) -> dict[str, Any]:
        """All arguments."""
        return {**super().get_config(), "bit_rate": self.bit_rate}  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="hgqc")
class BitAdam(_BitRate, keras.optimizers.Adam):
    """`keras.optimizers.Adam` whose learning rate is `bit_rate` times as high for bits.

    Where native ops may be used (`hgq.native`), one op updates and clips all variables, to the same bits: a quantized model has many small
    ones, and Keras' twenty ops for each of them would cost more than the update.
    """

    def __init__(self, learning_rate: Any = 1e-3, *, bit_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)  # pyright: ignore[reportCallIssue]
        self.bit_rate = float(bit_rate)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """As in Keras."""
        ops = self._fused(grads, trainable_variables)
        if ops is None:
            super().apply(grads, trainable_variables)
            return
        if not self.built:
            self.build(trainable_variables)
        factors = sorted({self.rate_of(variable) for variable in trainable_variables})
        bounds = [(one.constraint.low, one.constraint.high) if one.constraint is not None else (1.0, 0.0) for one in trainable_variables]
        slots = [self._get_variable_index(variable) for variable in trainable_variables]
        ops.hgqc_adam(
            [variable.value.handle for variable in trainable_variables],
            [self._momentums[slot].value.handle for slot in slots],
            [self._velocities[slot].value.handle for slot in slots],
            grads,
            tf.stack([self._alpha(self.learning_rate * factor) for factor in factors]),
            alpha_of=[factors.index(self.rate_of(variable)) for variable in trainable_variables],
            low=[low for low, _ in bounds],
            high=[high for _, high in bounds],
            one_minus_beta_1=1 - self.beta_1,
            one_minus_beta_2=1 - self.beta_2,
            epsilon=self.epsilon,
        )
        self.iterations.assign_add(1)

    def _alpha(self, learning_rate: Any) -> Any:
        """`learning_rate`, corrected for the bias of both means, by the very operations of Keras."""
        step = keras.ops.cast(self.iterations + 1, "float32")
        powers = [keras.ops.power(keras.ops.cast(beta, "float32"), step) for beta in (self.beta_1, self.beta_2)]
        return keras.ops.cast(learning_rate, "float32") * keras.ops.sqrt(1 - powers[1]) / (1 - powers[0])

    def _fused(self, grads: Any, variables: Any) -> Any | None:
        """The native ops, if one can do all that Keras would do here."""
        special = [self.clipnorm, self.clipvalue, self.global_clipnorm, self.weight_decay, self.loss_scale_factor]
        special += [self.gradient_accumulation_steps]
        if type(self) is not BitAdam or variables is None or self.amsgrad or self.use_ema or any(part is not None for part in special):
            return None
        if not all(isinstance(grad, tf.Tensor) and grad.dtype == tf.float32 for grad in grads) or tf.distribute.has_strategy():
            return None
        plain = all(
            isinstance(one, keras.Variable)
            and one.dtype == "float32"
            and not one.overwrite_with_gradient
            and (one.constraint is None or type(one.constraint) is Between)
            for one in variables
        )
        return native.ops_for(grads[0]) if plain and grads else None


@keras.saving.register_keras_serializable(package="hgqc")
class BitAdamW(_BitRate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` likewise; bits do not decay."""

    def __init__(self, learning_rate: Any = 1e-3, *, bit_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)  # pyright: ignore[reportCallIssue]
        self.bit_rate = float(bit_rate)
        self.exclude_from_weight_decay(var_names=[f"/{name}$" for name in BITS])


@keras.saving.register_keras_serializable(package="hgqc")
class BitSGD(_BitRate, keras.optimizers.SGD):
    """`keras.optimizers.SGD` likewise."""

    def __init__(self, learning_rate: Any = 1e-2, *, bit_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)  # pyright: ignore[reportCallIssue]
        self.bit_rate = float(bit_rate)


OPTIMIZERS = {"adam": BitAdam, "adamw": BitAdamW, "sgd": BitSGD}


def optimizer(name: str, learning_rate: float, bit_rate: float = 1.0) -> keras.optimizers.Optimizer:
    """An optimizer by name: ours where there is one, else Keras' own.

    Raises:
        ConfigError: neither exists, or Keras' own with a `bit_rate`.
    """
    if name.lower() in OPTIMIZERS:
        return OPTIMIZERS[name.lower()](learning_rate, bit_rate=bit_rate)
    try:
        found = keras.optimizers.get(name)
    except ValueError:
        raise ConfigError(
            "Unknown optimizer.", where="train.optimizer", expected=f"{', '.join(OPTIMIZERS)}, or another of Keras", received=name
        ) from None
    if bit_rate != 1.0:
        raise ConfigError(
            "This optimizer moves bits and weights at one rate.",
            where="train.bit_rate",
            expected=f"1, or one of {', '.join(OPTIMIZERS)} as train.optimizer",
            received=f"{bit_rate:g} with {name}",
        )
    found.learning_rate = learning_rate
    return found
