"""Quantized Keras layers. Importing this package imports Keras and TensorFlow.

``Flatten``, ``Reshape`` and ``Dropout`` need no quantized kind: use those of Keras.
"""

from __future__ import annotations

from hgq.layers.activation import QActivation, QInput, QReLU
from hgq.layers.attention import QMultiHeadAttention
from hgq.layers.base import QLayer
from hgq.layers.batch_norm import QBatchNormalization
from hgq.layers.cells import QGRU, QLSTM, QSimpleRNN
from hgq.layers.conv import QConv1D, QConv1DBatchNorm, QConv2D, QConv2DBatchNorm, QConv3D, QConv3DBatchNorm
from hgq.layers.dense import QDense, QDenseBatchNorm
from hgq.layers.depthwise import (
    QDepthwiseConv1D,
    QDepthwiseConv1DBatchNorm,
    QDepthwiseConv2D,
    QDepthwiseConv2DBatchNorm,
    QSeparableConv1D,
    QSeparableConv2D,
)
from hgq.layers.edges import QConv1DT, QConv2DT, QDenseT
from hgq.layers.einsum import QDot, QEinsum, QEinsumDense, QEinsumDenseBatchNorm
from hgq.layers.gradients import with_gradients
from hgq.layers.layer_norm import QLayerNormalization
from hgq.layers.linformer import QLinformerAttention
from hgq.layers.merge import QAdd, QAverage, QConcatenate, QMaximum, QMerge, QMinimum, QMultiply, QSubtract
from hgq.layers.pooling import (
    QAveragePooling1D,
    QAveragePooling2D,
    QAveragePooling3D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
    QGlobalAveragePooling3D,
    QGlobalMaxPooling1D,
    QGlobalMaxPooling2D,
    QGlobalMaxPooling3D,
    QMaxPooling1D,
    QMaxPooling2D,
    QMaxPooling3D,
)
from hgq.layers.reduce import QMax, QMean, QMin, QReduce, QSum
from hgq.layers.softmax import QSoftmax
from hgq.layers.table import QTable
from hgq.layers.transposed import QConv1DTranspose, QConv2DTranspose, QConv3DTranspose
from hgq.layers.walk import pause_gradients, qlayers, quantizers, set_beta, set_resource, total_cost, total_ebops

__all__ = [
    "QGRU",
    "QLSTM",
    "QActivation",
    "QAdd",
    "QAverage",
    "QAveragePooling1D",
    "QAveragePooling2D",
    "QAveragePooling3D",
    "QBatchNormalization",
    "QConcatenate",
    "QConv1D",
    "QConv1DBatchNorm",
    "QConv1DT",
    "QConv1DTranspose",
    "QConv2D",
    "QConv2DBatchNorm",
    "QConv2DT",
    "QConv2DTranspose",
    "QConv3D",
    "QConv3DBatchNorm",
    "QConv3DTranspose",
    "QDense",
    "QDenseBatchNorm",
    "QDenseT",
    "QDepthwiseConv1D",
    "QDepthwiseConv1DBatchNorm",
    "QDepthwiseConv2D",
    "QDepthwiseConv2DBatchNorm",
    "QDot",
    "QEinsum",
    "QEinsumDense",
    "QEinsumDenseBatchNorm",
    "QGlobalAveragePooling1D",
    "QGlobalAveragePooling2D",
    "QGlobalAveragePooling3D",
    "QGlobalMaxPooling1D",
    "QGlobalMaxPooling2D",
    "QGlobalMaxPooling3D",
    "QInput",
    "QLayer",
    "QLayerNormalization",
    "QLinformerAttention",
    "QMax",
    "QMaxPooling1D",
    "QMaxPooling2D",
    "QMaxPooling3D",
    "QMaximum",
    "QMean",
    "QMerge",
    "QMin",
    "QMinimum",
    "QMultiHeadAttention",
    "QMultiply",
    "QReLU",
    "QReduce",
    "QSeparableConv1D",
    "QSeparableConv2D",
    "QSimpleRNN",
    "QSoftmax",
    "QSubtract",
    "QSum",
    "QTable",
    "pause_gradients",
    "qlayers",
    "quantizers",
    "set_beta",
    "set_resource",
    "total_cost",
    "total_ebops",
    "with_gradients",
]
