"""One kind of hls4ml layer of our own: a C++ function that a rule writes, for what hls4ml has no template for.

`dialect` gives such functions their frame. In parallel a function gets arrays, ``inp`` and ``out``. In a stream it reads packets, of the
last axis, and writes packets; what it needs at once it gathers first. Exactness is C++'s: values move, or are cast by fixed-point types.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

from hgq.numerics import Fixed

from .dialect import NAME, Dialect
from .vendors import VENDORS

KIND = "HGQFunction"
"""Its class name for hls4ml."""

HEADER = "nnet_utils/hgq_functions.h"
"""Where the functions go for the compilers whose projects have no file for generated code."""

NO_CODE_FILE = ("Quartus",)


def casts(dialect: Dialect, fixed: Fixed, rounding: str, overflow: str) -> list[str]:
    """For each element of a tensor, the expression that casts ``inp[j]`` into its format; 0 where it has no bits."""
    k, i, f = (part.ravel() for part in fixed.canonical().astuple())
    found = []
    for j, (sign, integer, fraction) in enumerate(zip(k.tolist(), i.tolist(), f.tolist(), strict=True)):
        width = sign + integer + fraction
        found.append(dialect.cast(sign, sign + integer, width, rounding, overflow, f"inp[{j}]") if width > 0 else "0")
    return found


def picks(sources: Sequence[int]) -> list[str]:
    """For each element of the result, the operand's element of that number; 0 where it is negative."""
    return [f"inp[{j}]" if j >= 0 else "0" for j in sources]


def attributes(text: str, shape: Sequence[int]) -> dict[str, Any]:
    """hls4ml's dictionary of such a layer, but for its types."""
    return {"hgq_function": text, "target_shape": [int(size) for size in shape], "n_in": prod(shape)}


@cache
def register(vendor: str) -> None:
    """Make the kind known to one of hls4ml's back ends; once is enough."""
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate

    layer = _layer()

    class Call(FunctionCallTemplate):
        """Its call in the top function."""

        def __init__(self) -> None:
            headers = ["nnet_utils/nnet_stream.h"] if VENDORS[vendor].dialect == "ap" else []
            super().__init__(layer, include_header=[*headers, HEADER] if vendor in NO_CODE_FILE else headers)

        def get_name(self) -> str:
            return "hgqc_function_template"

        def format(self, node: Any) -> str:
            params = self._default_function_params(node)
            params["namespace"] = node.model.config.writer_config.get("Namespace", None) or "nnet"
            return "{namespace}::{name}<{input_t}, {output_t}>({input}, {output});".format(**params)

    get_backend(vendor).register_template(Call)
    if VENDORS[vendor].dialect == "oneapi":
        _register_tasks(layer, get_backend(vendor))


def _register_tasks(layer: type, backend: Any) -> None:
    """In SYCL a layer of a stream is a task: declared, then started."""
    from hls4ml.backends.oneapi.oneapi_template import StreamFunctionCallTemplate, TaskSequenceTemplate

    class Task(TaskSequenceTemplate):
        """Its declaration."""

        def __init__(self) -> None:
            super().__init__(layer)

        def get_name(self) -> str:
            return "hgqc_task_sequence_template"

        def format(self, node: Any) -> str:
            return "task_sequence<nnet::{name}<{input_pipe}, {output_pipe}>> {name};".format(**self._default_function_params(node))

    class Start(StreamFunctionCallTemplate):
        """Its start."""

        def __init__(self) -> None:
            super().__init__(layer)

        def get_name(self) -> str:
            return "hgqc_stream_function_template"

        def format(self, node: Any) -> str:
            return "{name}.async();".format(**self._default_function_params(node))

    backend.register_template(Task)
    backend.register_template(Start)


@cache
def _layer() -> type:
    from hls4ml.model.layers import Layer, register_layer
    from hls4ml.model.types import Source

    class HGQFunction(Layer):
        """A layer that is one C++ function."""

        def initialize(self) -> None:
            self.add_output_variable(list(self.attributes["target_shape"]))
            self.set_attr("hgq_codegen", Source(self.attributes["hgq_function"].replace(NAME, self.name)))

    register_layer(KIND, HGQFunction)
    return HGQFunction
