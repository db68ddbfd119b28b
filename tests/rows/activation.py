"""Activations as logic, and quantizers as layers."""

from __future__ import annotations

import keras

from hgq.layers import QActivation, QInput, QReLU
from tests.check_layer import Case, row

SAT = "kif(i0=2, f0=2, overflow=SAT)"

row(
    "QActivation",
    relu=Case(lambda: [QInput("data"), QActivation("relu", SAT)], [(4,)]),
    relu6=Case(lambda: [QInput("data"), QActivation("relu6", "data(granularity=channel)")], [(2, 4)], scale=4.0),
    hard_sigmoid=Case(lambda: [QInput("data"), QActivation("hard_sigmoid", "data(f0=5)")], [(4,)]),
    hard_tanh=Case(lambda: [QInput("data"), QActivation("hard_tanh", "kbi(granularity=tensor)")], [(4,)]),
    leaky_relu=Case(lambda: [QInput(SAT), QActivation("leaky_relu(0.125)", "data")], [(4,)]),
    linear=Case(lambda: QActivation("linear", "kif(rounding=S_RND, overflow=SAT_SYM)"), [(4,)]),
)
row("QReLU", plain=Case(lambda: [QInput("data"), QReLU()], [(4,)]), exact=Case(lambda: [QInput(SAT), QReLU(None)], [(2, 3)]))
row(
    "QInput",
    plain=Case(lambda: QInput(), [(4,)]),
    sign_magnitude=Case(lambda: QInput("kif(k0=1, i0=3, f0=2, overflow=WRAP_SM)"), [(4,)]),
)
row(
    "keras.layers.ReLU",
    plain=Case(lambda: [QInput(SAT), keras.layers.ReLU()], [(4,)]),
    limited=Case(lambda: [QInput("data"), keras.layers.ReLU(max_value=4.0)], [(4,)]),
)
row("keras.layers.LeakyReLU", plain=Case(lambda: [QInput(SAT), keras.layers.LeakyReLU(0.25)], [(4,)]))
