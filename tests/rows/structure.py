"""Keras' own layers that move elements, or do nothing in inference."""

from __future__ import annotations

import keras

from hgq.layers import QInput
from tests.check_layer import Case, row

K = keras.layers
SAT = "kif(i0=2, f0=2, overflow=SAT, granularity=channel)"


def behind_a_quantizer(make, shape, **refusals: str) -> Case:
    return Case(lambda: [QInput(SAT), make()], [shape], charged=False, **refusals)


LAYERS = {
    "Flatten": {"plain": (lambda: K.Flatten(), (2, 3))},
    "Reshape": {"plain": (lambda: K.Reshape((3, 2)), (2, 3))},
    "Permute": {"plain": (lambda: K.Permute((2, 1)), (2, 3)), "three": (lambda: K.Permute((3, 1, 2)), (2, 3, 2))},
    "ZeroPadding1D": {"uneven": (lambda: K.ZeroPadding1D((2, 1)), (3, 2))},
    "ZeroPadding2D": {"uneven": (lambda: K.ZeroPadding2D(((1, 0), (0, 2))), (2, 3, 2))},
    "ZeroPadding3D": {"plain": (lambda: K.ZeroPadding3D((1, 0, 1)), (2, 2, 2, 1))},
    "Cropping1D": {"uneven": (lambda: K.Cropping1D((1, 0)), (3, 2))},
    "Cropping2D": {"uneven": (lambda: K.Cropping2D(((1, 0), (0, 1))), (3, 3, 2))},
    "Cropping3D": {"plain": (lambda: K.Cropping3D(((1, 0), (0, 1), (0, 0))), (2, 3, 2, 1))},
    "UpSampling1D": {"plain": (lambda: K.UpSampling1D(2), (3, 2))},
    "UpSampling2D": {"nearest": (lambda: K.UpSampling2D((2, 3)), (2, 2, 2))},
    "UpSampling3D": {"plain": (lambda: K.UpSampling3D((1, 2, 1)), (2, 2, 1, 2))},
    "RepeatVector": {"plain": (lambda: K.RepeatVector(3), (4,))},
    "Dropout": {"plain": (lambda: K.Dropout(0.5), (4,))},
    "GaussianNoise": {"plain": (lambda: K.GaussianNoise(0.5), (4,))},
    "MaxPooling1D": {"plain": (lambda: K.MaxPooling1D(2), (6, 2))},
    "MaxPooling2D": {
        "plain": (lambda: K.MaxPooling2D(2), (4, 4, 2)),
        "overlapping": (lambda: K.MaxPooling2D((2, 3), 1, "same"), (4, 4, 2)),
    },
    "GlobalMaxPooling2D": {"plain": (lambda: K.GlobalMaxPooling2D(), (3, 2, 2))},
}
REFUSED = {"overlapping": {"io_stream": "only where windows do not overlap"}}
for name, cases in LAYERS.items():
    row(f"keras.layers.{name}", **{label: behind_a_quantizer(*case, **REFUSED.get(label, {})) for label, case in cases.items()})
