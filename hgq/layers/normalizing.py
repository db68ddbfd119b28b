"""What the layers with batch normalisation have in common."""

from __future__ import annotations

import keras
import tensorflow as tf

from hgq import replicas
from hgq.errors import ConfigError
from hgq.layers.base import QLayer, identifier_config


class NormalizingLayer(QLayer):
    """A `QLayer` that normalises its last axis: ``gamma * (z - mean) / sqrt(variance + epsilon) + offset``.

    In training mean and variance are the batch's, and move the moving ones by ``1 - momentum``; in inference, and while ``trainable`` is
    False, they are the moving ones. The arguments are those of `keras.layers.BatchNormalization`; its beta is `offset` here, because `beta`
    is the loss per EBOP.
    """

    def __init__(
        self,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= momentum <= 1.0 or epsilon <= 0.0:
            raise ConfigError(
                "momentum or epsilon means nothing.",
                where=f"layer {self.name}",
                expected="0 <= momentum <= 1 and epsilon > 0",
                received=f"momentum={momentum}, epsilon={epsilon}",
            )
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)

    def _build_normalization(self, channels: int) -> None:
        self.gamma = self.offset = None
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=(channels,),
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.offset = self.add_weight(
                name="offset",
                shape=(channels,),
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        self.moving_mean = self.add_weight(name="moving_mean", shape=(channels,), initializer=self.moving_mean_initializer, trainable=False)
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=(channels,), initializer=self.moving_variance_initializer, trainable=False
        )

    def _batch_statistics(self, z):
        """Mean and variance of a training batch; moves the moving ones."""
        mean, variance = replicas.pooled(*tf.nn.moments(z, list(range(len(z.shape) - 1))))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(tf.convert_to_tensor(moving) * self.momentum + tf.stop_gradient(batch) * (1.0 - self.momentum))
        return mean, variance

    def _folded(self, mean, variance):
        """The normalisation as ``z * scale + offset``, in the precision of its arguments."""
        scale = 1.0 / tf.sqrt(variance + tf.cast(self.epsilon, variance.dtype))
        if self.gamma is not None:
            scale = scale * tf.cast(self.gamma, scale.dtype)
        offset = -mean * scale
        if self.offset is not None:
            offset = offset + tf.cast(self.offset, offset.dtype)
        return scale, offset

    def _folded_moving(self):
        """The same with the moving statistics, in float64.

        A compiler may contract or reorder float32 arithmetic. One ulp of difference before a quantizer can flip a weight's last bit, and
        the frozen model would no longer be the one that Keras runs; an ulp of float64 is lost when the result is cast to float32.
        """
        return self._folded(tf.cast(self.moving_mean, tf.float64), tf.cast(self.moving_variance, tf.float64))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **identifier_config(
                beta_initializer=self.beta_initializer,
                gamma_initializer=self.gamma_initializer,
                moving_mean_initializer=self.moving_mean_initializer,
                moving_variance_initializer=self.moving_variance_initializer,
                beta_regularizer=self.beta_regularizer,
                gamma_regularizer=self.gamma_regularizer,
                beta_constraint=self.beta_constraint,
                gamma_constraint=self.gamma_constraint,
            ),
        }
