"""Running an emitted model in qonnx's executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgq.backend import Backend, Options
from hgq.errors import ToolNotFound

if TYPE_CHECKING:
    from hgq.ir.graph import Graph


def simulate(backend: Backend, graph: Graph, options: Options, x: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Outputs by the graph's names, float64.

    Raises:
        ToolNotFound: qonnx is not installed.
    """
    try:
        onnx, executor, wrapper = (import_module(name) for name in ("onnx", "qonnx.core.onnx_exec", "qonnx.core.modelwrapper"))
    except ImportError as error:
        raise ToolNotFound(
            "qonnx is not installed.", where="backend qonnx", received=str(error), fix="pip install 'hgqc[qonnx]'"
        ) from error
    data: Mapping[str, Any] = x if isinstance(x, Mapping) else {graph.inputs[0].name: x}
    samples = len(next(iter(data.values())))
    if samples == 0:
        return {name: np.zeros((0, *graph.formats()[name].shape)) for name in graph.outputs}
    project = backend.emit(graph, replace(options, extra={**options.extra, "batch": str(samples)}))
    model = wrapper.ModelWrapper(onnx.load_model_from_string(project.data(f"{options.name}.onnx")))
    results = executor.execute_onnx(model, {name: np.asarray(value, np.float32) for name, value in data.items()})
    return {name: np.asarray(results[f"output_{number}"], np.float64) for number, name in enumerate(graph.outputs)}
