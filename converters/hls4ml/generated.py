"""One kind of hls4ml layer of our own: a C++ function that a rule writes, for what hls4ml has no template for.

`code` gives such functions their frame. In parallel a function gets arrays, ``inp`` and ``out``. In a stream it reads packets, of the last
axis, and writes packets; what it needs at once it gathers first. Exactness is C++'s: values move, or are cast by ``ap_fixed`` itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from math import prod
from typing import Any

from hgq.numerics import Fixed

KIND = "HGQFunction"
"""Its class name for hls4ml."""

NAME = "@name@"
"""Stands for the name of the layer in a function's text."""


def casts(fixed: Fixed, rounding: str, overflow: str) -> list[str]:
    """For each element of a tensor, the expression that casts ``inp[j]`` into its format; 0 where it has no bits."""
    k, i, f = (part.ravel() for part in fixed.canonical().astuple())
    found = []
    for j, (sign, integer, fraction) in enumerate(zip(k.tolist(), i.tolist(), f.tolist(), strict=True)):
        width = sign + integer + fraction
        kind = f"ap_{'' if sign else 'u'}fixed<{width}, {sign + integer}, AP_{rounding}, AP_{overflow}>"
        found.append(f"{kind}(inp[{j}])" if width > 0 else "0")
    return found


def picks(sources: Sequence[int]) -> list[str]:
    """For each element of the result, the operand's element of that number; 0 where it is negative."""
    return [f"inp[{j}]" if j >= 0 else "0" for j in sources]


def parallel(expressions: Iterable[str]) -> str:
    """The text of a function on arrays: one expression in ``inp`` for each element of ``out``."""
    body = "\n".join(f"    out[{j}] = {expression};" for j, expression in enumerate(expressions))
    return f"\ntemplate <class input_t, class output_t> void {NAME}(input_t *inp, output_t *out) {{\n    #pragma HLS INLINE\n{body}\n}}\n"


def each_packet(expressions: Sequence[str], packets: int) -> str:
    """The text of a function on a stream: one expression in ``inp``, a packet, for each element of the packet ``out``."""
    body = "\n".join(f"        out[{j}] = {expression};" for j, expression in enumerate(expressions))
    return f"""
template <class input_t, class output_t> void {NAME}(hls::stream<input_t> &data, hls::stream<output_t> &res) {{
    for (int i = 0; i < {packets}; i++) {{
        #pragma HLS PIPELINE
        input_t inp = data.read();
        output_t out;
        PRAGMA_DATA_PACK(out)
{body}
        res.write(out);
    }}
}}
"""


def gathered(expressions: Sequence[str], inputs: int) -> str:
    """The text of a function on a stream that reads all of its operand before it writes: one expression in ``inp`` for each element."""
    body = "\n".join(f"    out[{j}] = {expression};" for j, expression in enumerate(expressions))
    return f"""
template <class input_t, class output_t> void {NAME}(hls::stream<input_t> &data, hls::stream<output_t> &res) {{
    typename input_t::value_type inp[{inputs}];
    typename output_t::value_type out[{len(expressions)}];
    #pragma HLS ARRAY_PARTITION variable=inp complete
    #pragma HLS ARRAY_PARTITION variable=out complete
    for (int i = 0; i < {inputs} / input_t::size; i++) {{
        #pragma HLS PIPELINE
        input_t packet = data.read();
        for (int j = 0; j < input_t::size; j++) {{
            #pragma HLS UNROLL
            inp[i * input_t::size + j] = packet[j];
        }}
    }}
{body}
    for (int i = 0; i < {len(expressions)} / output_t::size; i++) {{
        #pragma HLS PIPELINE
        output_t packet;
        PRAGMA_DATA_PACK(packet)
        for (int j = 0; j < output_t::size; j++) {{
            #pragma HLS UNROLL
            packet[j] = out[i * output_t::size + j];
        }}
        res.write(packet);
    }}
}}
"""


def folded(expression: str, packets: int, elements: int, value_type: str) -> str:
    """The text of a function on a stream that combines all packets, element by element, into one.

    Args:
        expression: Of ``acc[j]``, what came so far, and ``packet[j]``.
        packets: How many there are.
        elements: Elements of one.
        value_type: ``input_t`` or ``output_t``: whose elements hold what came so far.
    """
    return f"""
template <class input_t, class output_t> void {NAME}(hls::stream<input_t> &data, hls::stream<output_t> &res) {{
    typename {value_type}::value_type acc[{elements}];
    #pragma HLS ARRAY_PARTITION variable=acc complete
    for (int i = 0; i < {packets}; i++) {{
        #pragma HLS PIPELINE
        input_t packet = data.read();
        for (int j = 0; j < {elements}; j++) {{
            #pragma HLS UNROLL
            if (i == 0)
                acc[j] = packet[j];
            else
                acc[j] = {expression};
        }}
    }}
    for (int i = 0; i < {elements} / output_t::size; i++) {{
        #pragma HLS PIPELINE
        output_t out;
        PRAGMA_DATA_PACK(out)
        for (int j = 0; j < output_t::size; j++) {{
            #pragma HLS UNROLL
            out[j] = acc[i * output_t::size + j];
        }}
        res.write(out);
    }}
}}
"""


def attributes(text: str, shape: Sequence[int]) -> dict[str, Any]:
    """hls4ml's dictionary of such a layer, but for its types."""
    return {"hgq_function": text, "target_shape": [int(size) for size in shape], "n_in": prod(shape)}


@cache
def register() -> None:
    """Make the kind known to hls4ml; once is enough."""
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate
    from hls4ml.model.layers import Layer, register_layer
    from hls4ml.model.types import Source

    class HGQFunction(Layer):
        """A layer that is one C++ function."""

        def initialize(self) -> None:
            self.add_output_variable(list(self.attributes["target_shape"]))
            self.set_attr("hgq_codegen", Source(self.attributes["hgq_function"].replace(NAME, self.name)))

    class Call(FunctionCallTemplate):
        """Its call in the top function."""

        def __init__(self) -> None:
            super().__init__(HGQFunction, include_header=["nnet_utils/nnet_stream.h"])

        def get_name(self) -> str:
            return "hgqc_function_template"

        def format(self, node: Any) -> str:
            params = self._default_function_params(node)
            params["namespace"] = node.model.config.writer_config.get("Namespace", None) or "nnet"
            return "{namespace}::{name}<{input_t}, {output_t}>({input}, {output});".format(**params)

    register_layer(KIND, HGQFunction)
    get_backend("Vitis").register_template(Call)
