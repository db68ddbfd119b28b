"""One node on alkaid's symbolic arrays: the function of `hgq.ir.ops`, and ways around what alkaid 0.8.2 gets wrong.

- A *constant* among the elements (a pruned neuron is its bias) is mostly computed well, but not always: an unsigned wrap keeps one bit too
  many, and a product of constants only raises. Constants are therefore computed by the golden model.
- Rounding half to even looks for the dropped bits where the operand has them, after adding one half; when the sum lies on a coarser grid
  than the operand (all elements odd), it reads others. There it is done with additions and a truncation.
- Products are solved in 32-bit integers of one exponent: weights of very different magnitude are taken in groups.
- A weight is a float32, and an added constant has 32 bits: wider ones are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import LoweringError
from hgq.ir import tables
from hgq.ir.contraction import contract, sum_of_products
from hgq.ir.graph import Graph, Node
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS, PARALLEL, convolve
from hgq.numerics import Fixed, bit_length, rescale, trailing_zeros

ADD_BITS = 31
"""alkaid stores an added constant in a signed 32-bit integer."""

WEIGHT_BITS = 24
"""Significant bits of one weight: alkaid computes in float32 where it solves products and where it follows linear relations."""

SPAN = 28
"""Bits from the lowest to the highest of all weights that alkaid solves at once, in 32-bit integers."""

ALKAID_ERRORS = (ArithmeticError, AssertionError, LookupError, NotImplementedError, RuntimeError, StopIteration, TypeError, ValueError)
"""What alkaid raises on input that it did not foresee; it has no exception class of its own."""

MERGES = ("add", "subtract", "maximum", "minimum", "product")
ELEMENTWISE = ("quantize", "relu", "clip", "leaky_relu", "hard_sigmoid", "multiply", *MERGES)


def lower(node: Node, values: Mapping[str, Any], graph: Graph) -> Any:
    """The symbolic result of one node.

    Args:
        node: What to compute.
        values: Symbolic arrays of ports and earlier nodes, by name, with a batch axis of one.
        graph: Where the node's constants are.

    Raises:
        LoweringError: alkaid cannot take it; names node and layer.
    """
    operands = [values[name] if name in values else graph.consts[name].value for name in node.inputs]
    attrs = {key: value for key, value in node.attrs.items() if key != PARALLEL}  # everything is unrolled here
    where = f"node {node.name} ({node.op}), layer {node.source or '?'}"
    try:
        if node.op in ("matmul", "conv", "einsum", "multiply"):
            _check_width(node, graph.consts, operands, WEIGHT_BITS, where)
        if node.op == "matmul":
            return _matmul(operands[0], operands[1])
        if node.op == "conv":
            return convolve(operands[0], operands[1], _matmul, **attrs)
        if node.op == "einsum":
            _check_width(node, values, operands, WEIGHT_BITS, where)
            return contract(operands[0], operands[1], attrs["equation"], _matmul, _dot)
        if node.op == "lookup":
            return _lookup(operands[0], operands[1], node.attrs["format"], where)
        if node.op in ("sum_pool", "reduce_sum"):
            return OPS[node.op].function(operands[0], **node.attrs, product=_matmul)
        if node.op == "leaky_relu":
            return _with_constants(_leaky_relu(operands[0], **node.attrs), node, operands)
        if node.op in MERGES:
            _check_width(node, node.inputs, operands, WEIGHT_BITS if node.op == "product" else ADD_BITS, where)
        result = _quantize(operands[0], node) if node.op == "quantize" else OPS[node.op].function(*operands, **node.attrs)
        return _with_constants(result, node, operands) if node.op in ELEMENTWISE else result
    except LoweringError:
        raise
    except ALKAID_ERRORS as error:
        raise refused(where, error) from error


def flat(array: Any) -> list[Any]:
    """Alkaid's variables of an array, in C order."""
    return list(np.asarray(array).ravel())


def refused(where: str, error: Exception) -> LoweringError:
    """For what alkaid raised on its own."""
    return LoweringError(
        "alkaid cannot lower this to an adder graph.",
        where=where,
        received=f"{type(error).__name__}: {error}",
        fix="Please report it with the .hgq file; another backend may take the model: `hgq export --backend hls4ml`.",
    )


def _check_width(node: Node, names: Container[str], operands: list[Any], limit: int, where: str) -> None:
    """Constants, and elements of values that are constant, become weights or added constants in alkaid: of operands among `names`."""
    for name, x in zip(node.inputs, operands, strict=True):
        if name not in names:
            continue
        exact = IntArray.of_reals(_constants(x)[1])
        width = int(bit_length(np.abs(exact.mantissa) >> trailing_zeros(exact.mantissa)).max(initial=0))
        if width > limit:
            element = hasattr(x, "hwconf")
            raise LoweringError(
                f"{'An element that is always the same number' if element else 'A constant'} is too wide for the adder graph.",
                where=f"{where}, {'operand' if element else 'constant'} {name}",
                expected=f"at most {limit} significant bits",
                received=f"{width} bits",
                fix="Put a quantizer with fewer bits before this layer."
                if element
                else "Bound its bits (constraint on i and f), or start training with fewer fractional bits for it.",
            )


def _constants(x: Any) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which elements are constant, and their values (0 for the others)."""
    if not hasattr(x, "hwconf"):
        return np.ones(np.shape(x), bool), np.asarray(x, np.float64)
    ends = np.array([(variable.low, variable.high) for variable in flat(x)], np.float64).reshape(*x.shape, 2)
    constant = ends[..., 0] == ends[..., 1]
    return constant, np.where(constant, ends[..., 0], 0.0)


def _with_constants(result: Any, node: Node, operands: list[Any]) -> Any:
    """`result` with golden values wherever all operands are constant."""
    from alkaid.trace import FVariable

    pairs = [_constants(operand) for operand in operands]
    constant = np.broadcast_to(np.logical_and.reduce(np.broadcast_arrays(*(mask for mask, _ in pairs))), result.shape)
    if not constant.any():
        return result
    result = result.copy()
    golden = OPS[node.op].function(*(IntArray.of_reals(value) for _, value in pairs), **node.attrs).reals()
    for index in zip(*np.nonzero(constant), strict=True):
        result[index] = FVariable.from_const(golden[index], result.hwconf)
    return result


def _quantize(x: Any, node: Node) -> Any:
    result = OPS["quantize"].function(x, **node.attrs)
    if node.attrs["rounding"] != "RND_CONV":
        return result
    f = np.broadcast_to(node.attrs["format"].f, x.shape)
    alive = np.broadcast_to(node.attrs["format"].width > 0, x.shape)
    rounded, wrong = x.copy(), np.zeros(x.shape, bool)
    for index in zip(*np.nonzero(alive), strict=True):
        variable, to_f = x[index], int(f[index])
        if variable.low == variable.high or variable.kif[2] <= to_f or (variable + 2.0 ** (-to_f - 1)).step == variable.step:
            continue
        # floor(x + 1/2 - lsb of x + lsb of x if floor(x) is odd): at a tie, only an odd number goes up.
        lsb = 2.0 ** -variable.kif[2]
        odd = variable.quantize(0, 1 - to_f, to_f, "WRAP", "TRN") * (lsb * 2.0**to_f)
        rounded[index] = (variable + odd) + (2.0 ** (-to_f - 1) - lsb)
        wrong[index] = True
    if wrong.any():
        result = result.copy()
        result[wrong] = OPS["quantize"].function(rounded, **{**node.attrs, "rounding": "TRN"})[wrong]
    return result


def _leaky_relu(x: Any, slope: float) -> Any:
    """By the sign of x: a maximum would subtract the two only to look at the sign of the difference."""
    result, scaled = x.copy(), x * slope
    for index in np.ndindex(x.shape):
        if x[index].high <= 0:
            result[index] = scaled[index]
        elif x[index].low < 0:
            result[index] = x[index].msb_mux(scaled[index], x[index])
    return result


def _lookup(x: Any, table: NDArray[np.float64], fixed: Fixed, where: str) -> Any:
    """One table for each element, over exactly the values that alkaid believes it can have."""
    from alkaid.trace import FVariable

    exact = IntArray.of_reals(table)
    flat, rows = exact.mantissa.reshape(-1, table.shape[-1]), tables.rows(table.shape, fixed.shape)
    result = x.copy()
    for index in np.ndindex(x.shape):
        variable, element = x[index], fixed[index[1:]]
        k, i, f = (int(part) for part in element.astuple())
        low, high = (IntArray.of_reals(end) for end in (variable.low, variable.high))
        inside = element.low <= rescale(low.mantissa, low.f, f, "TRN") and rescale(high.mantissa, high.f, f, "TRN") <= element.high
        if variable.low != variable.high and not (inside and variable.step >= 2.0**-f):  # alkaid's bounds are wider than ours
            variable = variable.quantize(k, i, f, "WRAP", "TRN")
        steps = 1 if variable.low == variable.high else round((variable.high - variable.low) / variable.step) + 1
        mantissa = np.rint((variable.low + variable.step * np.arange(steps)) * 2.0**f).astype(np.int64)
        entries = flat[rows[index[1:]], tables.index(mantissa, element)]
        shared = int(trailing_zeros(entries[entries != 0]).min(initial=64))
        width = int(bit_length(np.abs(entries)).max(initial=0)) - shared
        if width > WEIGHT_BITS:
            raise LoweringError(
                "The entries of a table are too wide for the adder graph.",
                where=where,
                expected=f"at most {WEIGHT_BITS} bits from the highest to the lowest of all entries",
                received=f"{width} bits",
                fix="Give the output quantizer of this function fewer bits.",
            )
        values = np.ldexp(entries.astype(np.float64), -exact.f)
        result[index] = FVariable.from_const(values[0], x.hwconf) if steps == 1 else variable.lookup(values)
    return result


def _matmul(x: Any, w: NDArray[np.float64]) -> Any:
    """Row by row, which is what alkaid does too: what is constant may differ between rows, as at the border of a padded image."""
    rows = np.reshape(x, (-1, x.shape[-1]))
    return np.reshape(np.concatenate([_row(rows[i : i + 1], w) for i in range(len(rows))]), (*x.shape[:-1], w.shape[-1]))


def _dot(left: Any, right: Any) -> Any:
    def merged(op: str) -> Callable[[Any, Any], Any]:
        return lambda x, y: _with_constants(OPS[op].function(x, y), Node(op, op, ("", "")), [x, y])

    return sum_of_products(left, right, merged("product"), merged("add"))


def _row(x: Any, w: NDArray[np.float64]) -> Any:
    from alkaid.trace import FVArray

    mask, value = _constants(x)
    constant = mask[0]
    offset = np.where(constant, value, 0.0) @ w
    if (w[~constant] == 0).all():
        return FVArray.from_lhs(offset, offset, np.ones_like(offset), x.hwconf)
    result, rest = None, np.where(constant[:, None], 0.0, w)
    exact = IntArray.of_reals(rest)
    lowest = np.asarray(trailing_zeros(exact.mantissa)) - exact.f
    while rest.any():
        highest = np.frexp(np.abs(rest).max())[1]
        part = np.where(lowest >= highest - SPAN, rest, 0.0)
        product = OPS["matmul"].function(x, part)
        result = product if result is None else result + product
        rest = rest - part
    return result if result is None or not offset.any() else result + offset
