"""A Keras model as the reference of a verification: its predictions, and the layer where it first leaves the golden model."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.ir.graph import Graph


class KerasReference:
    """Implements `hgq.verify.Reference`.

    Args:
        model: The model that the graph was frozen from.
        batch_size: Samples a step.
    """

    def __init__(self, model: keras.Model, batch_size: int = 4096) -> None:
        self.model = model
        self.batch_size = batch_size

    def predict(self, graph: Graph, data: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float32]]:
        """``model.predict`` by the graph's output names; ports and model inputs stand in the same order."""
        outputs = self._predict(self.model, graph, data)
        return dict(zip(graph.outputs, outputs, strict=True))

    def first_divergent(self, graph: Graph, data: dict[str, NDArray[np.float64]]) -> tuple[str, str]:
        """The first node whose layer's output differs from Keras', and a note."""
        fresh = freeze(self.model, optimize=False)
        here, there = interpret.run(graph, data), interpret.run(fresh, data)
        if any(not np.array_equal(a, b) for a, b in zip(here.values(), there.values(), strict=True)):
            return "", "Freezing this Keras model anew gives other results: the .hgq file is not of this model, or of another calibration."
        traced = interpret.run(fresh, data, trace=True)
        last = {node.source.split("/")[0]: node.name for node in fresh.nodes}
        for layer in self.model.layers:
            if layer.name not in last or isinstance(layer, keras.Model):
                continue
            (value,) = self._predict(keras.Model(self.model.inputs, layer.output), graph, data)
            if not np.array_equal(traced[last[layer.name]], value.astype(np.float64).reshape(traced[last[layer.name]].shape)):
                return last[layer.name], "Keras computes in float32: see the warning of `hgq freeze` about sums beyond 24 bits."
        return "", ""

    def _predict(self, model: keras.Model, graph: Graph, data: dict[str, NDArray[np.float64]]) -> list[NDArray[np.float32]]:
        arrays = [data[port.name].astype(np.float32) for port in graph.inputs]
        outputs = model.predict(arrays[0] if len(arrays) == 1 else arrays, batch_size=self.batch_size, verbose=0)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
