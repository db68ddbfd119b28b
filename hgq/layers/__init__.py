"""Quantized Keras layers. Importing this package imports Keras and TensorFlow."""

from __future__ import annotations

from hgq.layers.base import QLayer
from hgq.layers.dense import QDense
from hgq.layers.walk import qlayers, quantizers, set_beta, total_ebops

__all__ = ["QDense", "QLayer", "qlayers", "quantizers", "set_beta", "total_ebops"]
