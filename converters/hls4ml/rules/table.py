"""The rule of lookups: hls4ml's ``UnaryLUT`` has one table a tensor, which the bits of the tensor's type index."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hgq.ir import tables
from hgq.ir.graph import Const, Node
from hgq.ir.ops import MOVES
from hgq.numerics import Fixed, Ints, rescale

from .. import generated
from ..types import type_name
from .base import PREVIOUS, Context, Layer, kept, lowers, refused

LONGEST = 16
"""Most bits of a tensor that is an index."""


@lowers("lookup")
def _lookup(context: Context, node: Node) -> Iterator[Layer]:
    x, name = node.inputs
    const = context.graph.consts[name]
    f = int(const.format.f.max(initial=0))
    table = _merged(node, context.formats[x], rescale(const.mantissa, const.format.f, f, "TRN"))
    one = Const.minimal(name, table, np.full(table.shape, f))
    types = {"result": context.type_of(node.name), "table": type_name(one.format)}
    source = x
    if any(earlier.name == x and earlier.op in MOVES for earlier in context.graph.nodes):
        # what is only moved keeps the type of all that it was taken from, and the table is indexed by the bits of the type
        yield kept(context, None, x, context.formats[x])
        source = PREVIOUS
    if not context.settings.vendor.lookups:
        yield _function(context, node, source, one)
        return
    yield Layer(
        node.name, "UnaryLUT", (source,), types, {"n_in": prod(context.shape(x)), "table_data": one.value, "activation": "unary_lut"}
    )


def _function(context: Context, node: Node, source: str, table: Const) -> Layer:
    """A function of ours, for the compilers that hls4ml has no table layer for."""
    dialect, shape = context.settings.dialect, context.shape(node.name)
    reach = context.formats[node.inputs[0]]
    k, i, f = (int(part.max(initial=-99)) for part in (part[reach.width > 0] for part in reach.astuple()))
    width = k + i + f if (reach.width > 0).any() else 1
    values = ", ".join(repr(float(value)) for value in table.value.ravel())
    constants = f"    static const {dialect.type(type_name(table.format))} table[{table.value.size}] = {{{values}}};\n"
    index = f"table[(unsigned)inp[%d].template slc<{width}>(0).to_int() & {(1 << width) - 1}]"
    if not context.settings.stream:
        text = dialect.parallel([index % j for j in range(prod(shape))], constants)
    elif len(shape) == 1:
        text = dialect.gathered([index % j for j in range(prod(shape))], prod(shape), constants)
    else:
        text = dialect.each_packet([index % j for j in range(shape[-1])], prod(shape[:-1]), constants)
    return Layer(node.name, generated.KIND, (source,), {"result": context.type_of(node.name)}, generated.attributes(text, shape))


def _merged(node: Node, reach: Fixed, entries: Ints) -> Ints:
    """One table for a tensor: for each pattern of its type, what the elements that can have it find in their own tables.

    Args:
        node: The lookup.
        reach: Proven formats of the elements.
        entries: Mantissas of all tables, of one exponent.
    """
    alive = reach.width > 0
    k, i, f = (int(part[alive].max(initial=-99)) for part in reach.astuple()) if alive.any() else (0, 1, 0)
    if k + i + f > LONGEST:
        fix = "Bound the bits of this layer's input quantizer, or give all its elements one format: granularity=tensor."
        raise refused(
            node,
            "The table of a tensor would be too long.",
            f"at most {LONGEST} bits for all elements together",
            f"{k + i + f} bits: {fix}",
        )
    own: Fixed = node.attrs["format"]
    rows = tables.rows(entries.shape, own.shape)
    flat = entries.reshape(-1, entries.shape[-1])
    pattern = tables.mantissas(Fixed(k, i, f))
    merged, known = np.zeros(pattern.shape, np.int64), np.zeros(pattern.shape, bool)
    parts = [part.ravel() for part in (*reach.canonical().astuple(), *own.astuple(), rows)]
    for part in np.unique(np.stack(parts), axis=1).T:
        within, index, row = Fixed(*part[:3]), Fixed(*part[3:6]), part[6]
        coarse = max(f - int(within.f), 0) if within.width > 0 else LONGEST + 1
        mine = (pattern & ((1 << coarse) - 1)) == 0
        m = pattern >> coarse
        mine &= (m >= within.low) & (m <= within.high)
        read = flat[row, tables.index(rescale(pattern, f, index.f, "TRN"), index)]
        if (known & mine & (merged != read)).any():
            raise refused(
                node,
                "hls4ml looks all elements of a tensor up in one table.",
                "one table for all elements: an output quantizer with granularity=tensor",
                f"{len(flat)} tables that differ",
            )
        merged, known = np.where(mine, read, merged), known | mine
    return merged
