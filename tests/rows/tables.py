"""Lookup tables and what is built of them."""

from __future__ import annotations

import keras
import numpy as np

from hgq.layers import QTable
from tests.check_layer import Case, row
from tests.rows.counts import data_bits

LUTS = {0: 0, 1: 0, 2: 0.25, 3: 0.375, 4: 0.4375, 5: 0.5, 6: 1, 7: 2, 8: 4, 9: 8.5, 10: 17, 11: 34, 12: 68, 13: 136, 14: 272}
"""LUT6 for one output bit, by the bits of the index: `hgq.resources.ebops.table_luts` as its documentation lists it."""


def table_cost(table, shape, alive=None) -> float:
    """A table for each element that anybody reads."""
    bx, by = (data_bits(quantizer, shape) for quantizer in (table.input_quantizer, table.output_quantizer))
    return float(sum(LUTS[int(bx[index])] * by[index] for index in np.ndindex(*shape) if alive is None or alive[index]))


def one_table(layer) -> float:
    return table_cost(layer.table, tuple(layer.input.shape[1:]))


@keras.saving.register_keras_serializable(package="hgqc_tests")
def bump(x):
    """A user's function."""
    return keras.ops.exp(-x * x)


row(
    "QTable",
    tanh=Case(lambda: QTable("tanh"), [(5,)], brute=one_table),
    sigmoid_channels=Case(
        lambda: QTable(
            "sigmoid", input_quantizer="data(granularity=channel)", output_quantizer="data(k0=0, i0=0, f0=5, granularity=channel)"
        ),
        [(3, 4)],
        brute=one_table,
        io_parallel="one table",
        io_stream="one table",
    ),
    elements=Case(
        lambda: QTable("silu", input_quantizer="kbi(b0=5, overflow=SAT_SYM)", output_quantizer="kif(i0=2, f0=4, overflow=SAT)"),
        [(2, 3)],
        brute=one_table,
        io_parallel="one table",
        io_stream="one table",
    ),
    reciprocal=Case(
        lambda: QTable("reciprocal", input_quantizer="data(granularity=tensor, f0=3, overflow=SAT, rounding=TRN)"), [(4,)], brute=one_table
    ),
    rsqrt=Case(lambda: QTable("rsqrt", input_quantizer="data(k0=0, f0=4, overflow=SAT)"), [(4,)], brute=one_table),
    own=Case(lambda: QTable(bump), [(4,)], brute=one_table),
)
