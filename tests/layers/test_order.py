"""What a training step reads of its variables, it reads before it changes them: in the graph as TensorFlow has optimized it."""

from __future__ import annotations

import graphlib
from collections import defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import native
from hgq.layers import QConv1D, QDense, QDenseBatchNorm, QLayerNormalization, QMultiHeadAttention
from hgq.training import BitAdam

UPDATES = ("AssignVariableOp", "AssignSubVariableOp", "AssignAddVariableOp", "HgqcAdam")


def dense():
    return keras.Sequential([keras.Input((6,)), QDenseBatchNorm(8, "relu"), QDense(1)])


def sequence():
    inputs = keras.Input((4, 6))
    x = QConv1D(6, 2, padding="same")(inputs)
    x = QMultiHeadAttention(1, 4)(x, x)
    return keras.Model(inputs, QDense(1)(keras.layers.Flatten()(QLayerNormalization()(x))))


def optimized(step, directory) -> list:
    """Nodes of the largest graph that runs in `step`, optimized."""
    tf.summary.trace_on(graph=True)
    step()
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        tf.summary.trace_export("step", step=0)
    writer.close()
    (file,) = directory.iterdir()
    graphs = []
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            for content in value.tensor.string_val:
                found = tf.compat.v1.RunMetadata.FromString(content).function_graphs
                graphs += [list(graph.post_optimization_graph.node) for graph in found]
    return max(graphs, key=len)


def unordered(nodes) -> list[tuple[str, str]]:
    """Updates and reads of one variable without a path from one to the other."""
    inputs = {node.name: {name.lstrip("^").split(":")[0] for name in node.input} for node in nodes}
    before: dict[str, set[str]] = {}
    for name in graphlib.TopologicalSorter(inputs).static_order():
        before[name] = inputs[name].union(*(before[source] for source in inputs[name]))
    arguments = {node.name for node in nodes if node.op == "_Arg"}
    reads, updates = defaultdict(list), defaultdict(list)
    for node in nodes:
        if node.op in ("ReadVariableOp", *UPDATES):
            for variable in inputs[node.name] & arguments:
                (reads if node.op == "ReadVariableOp" else updates)[variable].append(node.name)
    assert sum(map(len, updates.values())) > 20 < sum(map(len, reads.values()))
    return [
        (update, read)
        for variable in updates
        for update in updates[variable]
        for read in reads[variable]
        if update not in before[read] and read not in before[update]
    ]


@pytest.mark.parametrize(
    ("make", "optimizer", "fast"),
    [(dense, "adam", False), (dense, "adam", True), (dense, BitAdam, True), (sequence, "sgd", False)],
)
def test_reads_and_updates_have_an_order(make, optimizer, fast, tmp_path):
    model = make()
    model.compile(optimizer() if callable(optimizer) else optimizer, "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    x, y = np.zeros((8, *model.input_shape[1:]), np.float32), np.zeros((8, 1), np.float32)

    @tf.function(autograph=False)
    def step(x, y):
        with native.in_graphs(fast):
            return model.train_step((x, y))  # as `fit` does: it depends on the results what the optimizer does

    assert unordered(optimized(lambda: step(tf.constant(x), tf.constant(y)), tmp_path)) == []
