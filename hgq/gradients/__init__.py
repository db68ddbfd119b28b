"""Backward passes on few bits: how the gradients of a layer's product are computed.

Three levels, because the methods live at different ones:

- a `GradientQuantizer` quantizes the gradient of a product's result, element by element, before both products of the backward pass use it
  (LUQ, integer and floating-point formats, block formats);
- a `BackwardScheme` owns both products of the backward pass: what is kept of the data, and what each product reads (HLQ);
- methods that own the training step live in `hgq.training` and contain one of the others.

A layer takes any of the first two by string: ``QDense(32, gradients="luq4")``.
"""

from __future__ import annotations

from hgq.gradients.base import BackwardScheme, GradientQuantizer, Scheme, register
from hgq.gradients.blocks import MXFP4, NVFP4
from hgq.gradients.floating import FP4
from hgq.gradients.get import Identifier, get, names, serialize
from hgq.gradients.hlq import HLQ
from hgq.gradients.integer import IntegerGradient
from hgq.gradients.linear import MatrixProduct
from hgq.gradients.luq import LUQ
from hgq.gradients.products import IntegerProducts

__all__ = [
    "FP4",
    "HLQ",
    "LUQ",
    "MXFP4",
    "NVFP4",
    "BackwardScheme",
    "GradientQuantizer",
    "Identifier",
    "IntegerGradient",
    "IntegerProducts",
    "MatrixProduct",
    "Scheme",
    "get",
    "names",
    "register",
    "serialize",
]
