"""Trainable quantizers, and `get`, which makes one from a string.

Importing this package imports Keras and TensorFlow.
"""

from __future__ import annotations

import keras

from hgq.errors import ConfigError

if keras.config.backend() != "tensorflow":
    raise ConfigError(
        "hgqc trains on Keras' TensorFlow backend.",
        expected="tensorflow",
        received=keras.config.backend(),
        fix="Set the environment variable KERAS_BACKEND=tensorflow (or unset it) before the first import of keras.",
    )

from hgq.quantizers.base import QUANTIZERS, Quantizer, register_quantizer
from hgq.quantizers.binary import BinaryQuantizer, TernaryQuantizer
from hgq.quantizers.fixed import FixedQuantizer
from hgq.quantizers.get import Identifier, get, serialize
from hgq.quantizers.laq import LAQQuantizer
from hgq.quantizers.minifloat import MinifloatQuantizer, PowerOfTwoQuantizer
from hgq.quantizers.sawb import SawbQuantizer

__all__ = [
    "QUANTIZERS",
    "BinaryQuantizer",
    "FixedQuantizer",
    "Identifier",
    "LAQQuantizer",
    "MinifloatQuantizer",
    "PowerOfTwoQuantizer",
    "Quantizer",
    "SawbQuantizer",
    "TernaryQuantizer",
    "get",
    "register_quantizer",
    "serialize",
]
