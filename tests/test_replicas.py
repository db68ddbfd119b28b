"""Two replicas that share each batch train what one device trains on the whole batch."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import replicas
from hgq.errors import ConfigError
from hgq.ir import file
from hgq.training.devices import strategy_of
from hgq.training.optimizers import BitSGD

PROGRAM = Path(__file__).with_name("two_replicas.py")
TRACKED = re.compile(r"/(k|seen|ebops|draws|sign|highest|gradient_draws)$")
"""Numbers that are equal to the last bit: they are maxima, counters, or made of equal ones."""


def program(*arguments):
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, env=env, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return json.loads(program("fit", tmp_path_factory.mktemp("replicas") / "two.keras").splitlines()[-1])


@pytest.mark.slow
def test_two_replicas_train_what_one_device_trains(found):
    one, two = found["one"], found["two"]
    assert list(one["copies"]) == list(two["copies"])
    moved = 0
    for path, (alone,) in one["copies"].items():
        first, second = (np.asarray(copy) for copy in two["copies"][path])
        assert np.array_equal(first, second), f"{path}: the replicas have parted"
        distance = np.abs(np.asarray(alone) - one["before"][path]).max()
        moved += distance > 0
        tracked_i = path.endswith("/i") and path.replace("/i", "/seen") in one["copies"]
        if TRACKED.search(path) or tracked_i:
            assert np.array_equal(first, alone), path
        else:  # what moved, moved alike, to the rounding of sums; a gradient that was counted twice would be off by 1
            assert np.abs(first - alone).max() <= 1e-3 * distance + 1e-6, path
    assert moved > 60  # of 105 variables: few are constants
    for name, value in one["history"].items():
        assert two["history"][name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
def test_the_file_is_that_of_one_device(found):
    assert found["two"]["loaded"] == found["two"]["outputs"]


@pytest.mark.slow
def test_replicas_round_by_numbers_of_their_own(found):
    first, second = (np.asarray(one) for one in found["random"]["drawn"])
    assert set(np.unique(first)) == set(np.unique(second)) == {0.0, 1.0}
    assert not np.array_equal(first, second)  # by chance: 2**-64
    assert found["random"]["draws"] == [1, 1]


@pytest.mark.slow
def test_native_ops_are_used_on_the_threads_of_replicas(found):
    assert ("HgqcFixedTracked" in found["random"]["ops"]) == found["native"]


@pytest.mark.slow
def test_what_several_devices_cannot_do_is_refused(found):
    method, xla, uneven = found["refused"]
    assert "one device" in method and "2 replicas" in method
    assert "XLA" in xla and "a multiple of 2" in uneven


def test_alone_there_is_nothing_to_agree_on():
    value, seed = tf.constant([1.0, 2.0]), tf.constant([3, 4])
    assert replicas.count() == 1 and int(replicas.number()) == 0
    assert replicas.greatest(value, value) == (value, value)
    assert replicas.mean(value) is value and replicas.pooled(value, value) == (value, value)
    assert replicas.own_seed(seed) is seed and replicas.share(value) is value


@pytest.mark.parametrize(("name", "rate"), [("net/dense/kernel_quantizer/b", 4.0), ("b/replica_1:0", 4.0), ("kernel/replica_1:0", 1.0)])
def test_bits_are_known_by_name_on_any_replica(name, rate):
    assert BitSGD(0.1, bit_rate=4.0).rate_of(SimpleNamespace(name=name)) == rate


def test_the_optimizer_makes_its_variables_outside_of_the_graph():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    optimizer = BitSGD(0.1, momentum=0.9)

    @tf.function(autograph=False)
    def step():
        optimizer.build(layer.trainable_variables)

    step()
    ops = {operation.type for operation in step.get_concrete_function().graph.get_operations()}
    assert optimizer.built and not ops & {"If", "StatelessIf", "VarHandleOp"}


@pytest.mark.slow
def test_a_run_on_two_devices(blobs, tmp_path):
    program("run", blobs, tmp_path)

    def rows(name, columns):
        with (tmp_path / name / "history.csv").open() as opened:
            return [[row[column] for column in columns] for row in csv.DictReader(opened)]

    assert rows("two", ["ebops", "beta", "val_accuracy"]) == rows("one", ["ebops", "beta", "val_accuracy"])
    losses = [np.array(rows(name, ["loss", "val_loss"]), float) for name in ("one", "two")]
    assert len(losses[0]) >= 4 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert rows("interrupted", ["epoch", "loss", "ebops"]) == rows("whole", ["epoch", "loss", "ebops"])
    assert rows("whole", ["loss"]) != rows("two", ["loss"])  # it was not the same training: gradients had four bits
    graphs = [file.load(tmp_path / name / "model.hgq").digest() for name in ("whole", "interrupted")]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"devices": 99, "batch_size": 99, "jit_compile": False}, "not so many devices"),
        ({"devices": 1, "batch_size": 7, "jit_compile": True}, None),
        ({"devices": "all", "batch_size": 8, "jit_compile": True}, None),  # of one
    ],
)
def test_devices_are_refused_or_one(arguments, said):
    if said is None:
        assert strategy_of(**arguments).num_replicas_in_sync == 1
    else:
        with pytest.raises(ConfigError, match=said):
            strategy_of(**arguments)
