"""Weights of few kinds of numbers, in the layer that most models are made of."""

from __future__ import annotations

from hgq.layers import QDense
from tests.check_layer import Case, row
from tests.rows.dense import matrix_products

row(
    "QDense",
    binary=Case(lambda: QDense(3, "relu", kernel_quantizer="binary"), [(4,)], brute=matrix_products),
    ternary=Case(lambda: QDense(3, kernel_quantizer="ternary", bias_quantizer="po2(e=4)"), [(4,)], brute=matrix_products, scatter=False),
)
