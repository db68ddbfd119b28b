"""Models trained by one step: each to the very bits that training alone gives it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.config import Recipe
from hgq.errors import ConfigError
from hgq.sweep import Plan, sweep
from hgq.sweep.groups import groups
from hgq.sweep.runners import Together
from hgq.sweep.stack import Stack
from hgq.sweep.stack.program import Program
from hgq.sweep.stack.stack import state_of
from hgq.sweep.stack.traced import Traced
from hgq.sweep.stack.values import Value
from hgq.training import load_data, train
from hgq.training.build import build_model
from hgq.training.loop import Loop
from tests.blobs import recipe as blobs_recipe
from tests.sweep.test_sweep import same_training

LAYERS = """
[[layers]]
type = "QDenseBatchNorm"
units = 8
activation = "relu"
[[layers]]
type = "Dropout"
rate = 0.2
[[layers]]
type = "QDense"
units = 6
activation = "leaky_relu(0.125)"
input_quantizer = "data(granularity=tensor)"
kernel_quantizer = "weight(granularity=channel)"
[[layers]]
type = "QDense"
units = 3
"""
"""What a stack has rules of its own for, and what it does model by model."""


def together_and_alone(recipe, seeds, epochs):
    """The stack after some epochs, and for each seed a model trained alone, with its metrics."""

    def built(seed):
        keras.utils.set_random_seed(seed)
        data = load_data(recipe.changed(train={"seed": seed}))
        return build_model(recipe, data), data

    models, data = zip(*(built(seed) for seed in seeds), strict=True)
    for number, model in enumerate(models):  # variables are each model's own
        model.optimizer.learning_rate.assign(0.01 * (number + 1))
    stack = Stack(models, [(one.x_train, one.y_train) for one in data], batch_size=recipe.train.batch_size)
    means = [stack.run_epoch([(seed, epoch) for seed in seeds]) for epoch in range(epochs)]
    alone = []
    for number, seed in enumerate(seeds):
        model, one = built(seed)
        model.optimizer.learning_rate.assign(0.01 * (number + 1))
        loop = Loop(model, one.x_train, one.y_train, batch_size=recipe.train.batch_size, seed=seed, jit_compile=False)
        alone.append((model, loop, one, [loop.run_epoch(epoch) for epoch in range(epochs)]))
    return stack, means, alone


def test_a_stack_trains_to_the_bits_of_training_alone(blobs):
    text = blobs_recipe(blobs.as_posix(), epochs=2).replace("[model]\nwidths = [6]\n", "") + LAYERS
    recipe = Recipe.from_text(text.replace("ebops = 300", "lut = 300"))  # the charge with most ops; it sums fractions
    stack, means, alone = together_and_alone(recipe, [3, 5], epochs=2)
    outputs, costs = stack.predict([one.x_val for _, _, one, _ in alone]), stack.costs()
    stack.pull()
    for number, (model, loop, one, logs) in enumerate(alone):
        different = [
            variable.path
            for variable, own in zip(state_of(model), state_of(stack.models[number]), strict=True)
            if not np.array_equal(variable.numpy(), own.numpy())
        ]
        assert not different
        assert [row[number] for row in means] == logs
        assert np.array_equal(outputs[number], loop.predict(one.x_val)) and costs[number] == loop.costs()
    weights = [model.get_weights() for model in stack.models]
    assert not np.array_equal(weights[0][0], weights[1][0])


@pytest.mark.slow
def test_push_and_pull(blobs):
    recipe = Recipe.from_text(blobs_recipe(blobs.as_posix(), epochs=2))
    stack, _, _ = together_and_alone(recipe, [1, 2], epochs=1)
    stack.pull([1])
    kernel = [next(v for v in model.variables if v.name == "kernel") for model in stack.models]
    before = [variable.numpy() for variable in kernel]
    kernel[0].assign(before[0] + 1)
    kernel[1].assign(before[1] - 1)
    stack.push()
    kernel[0].assign(before[0] * 0)
    kernel[1].assign(before[1] * 0)
    stack.pull([0])
    assert np.array_equal(kernel[0].numpy(), before[0] + 1) and not kernel[1].numpy().any()


@pytest.mark.parametrize("shared", [False, True])
def test_ops_of_a_program_against_numpy(shared):
    """Each rule of its own, by values: three models, the second operand shared or each model's own."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 4, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    b = np.broadcast_to(b[:1], b.shape) if shared else b

    def function(x, y):
        return {
            "broadcast": x * y + tf.reduce_sum(x, -1, keepdims=True),
            "where": tf.where(x > y, x, tf.zeros(())),
            "slice": x[1:3, -1],
            "tail": y[..., ::-2],
            "tile": tf.tile(y, [3]),
            "pack": tf.stack([y, x[0]], -1),
            "reshape": tf.reshape(x, [-1, 2]) - 1.0,
            "product": tf.matmul(x, tf.reshape(y, [5, 1])),
            "transposed": tf.matmul(x, x, transpose_b=True),
            "softmax": tf.nn.softmax(x),  # no rule: model by model
            "constant": tf.range(3) * 2,
        }

    program = Program(Traced(function, [tf.TensorSpec((4, 5)), tf.TensorSpec((5,))], {}), 3)

    @tf.function(autograph=False)
    def run():
        second = Value(3, shared=tf.constant(b[0])) if shared else Value(3, stacked=tf.constant(b))
        return {name: value.stacked() for name, value in program(Value(3, parts=list(tf.unstack(tf.constant(a)))), second).items()}

    got = {name: value.numpy() for name, value in run().items()}
    for n in range(3):
        x, y = a[n], b[n]
        wanted = {
            "broadcast": x * y + x.sum(-1, keepdims=True),
            "where": np.where(x > y, x, 0),
            "slice": x[1:3, -1],
            "tail": y[::-2],
            "tile": np.tile(y, 3),
            "pack": np.stack([y, x[0]], -1),
            "reshape": x.reshape(-1, 2) - 1,
            "product": x @ y[:, None],
            "transposed": x @ x.T,
            "softmax": np.exp(x) / np.exp(x).sum(-1, keepdims=True),
            "constant": np.arange(3) * 2,
        }
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name][n], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_what_cannot_be_done_for_many_is_refused():
    def loops(x):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), (0, x))[1]

    def draws(x):
        return x + tf.random.uniform((4,))

    hidden = tf.Variable(1.0)
    for function, why in ((loops, "a loop"), (draws, "no variable"), (lambda x: x * hidden, "neither the model's nor its optimizer's")):
        with pytest.raises(ConfigError, match=why) as caught:
            Traced(function, [tf.TensorSpec((4,))], {})
        assert "--workers" in str(caught.value)


def test_models_must_be_alike(blobs):
    recipe = Recipe.from_text(blobs_recipe(blobs.as_posix(), epochs=2))
    data = load_data(recipe)
    models = [build_model(recipe.changed(model={"widths": [units]}), data) for units in (6, 7)]
    with pytest.raises(ConfigError, match="one architecture"):
        Stack(models, [(data.x_train, data.y_train)] * 2, batch_size=128)
    drawn = recipe.changed(train={"gradients": "luq4"})
    models = [build_model(drawn, data) for _ in range(2)]
    with pytest.raises(ConfigError, match="gradient_seed"):
        Stack(models, [(data.x_train, data.y_train)] * 2, batch_size=128)


def test_groups(recipe_text):
    axes = {"seed": "0:3", "budget": [100, 200], "train.learning_rate": [0.01, 0.02], "train.batch_size": [64, 128]}
    found = groups(Plan.from_text(recipe_text(), axes).trials())
    assert [len(group) for group in found] == [12, 12]
    assert all(len({trial.recipe.train.batch_size for trial in group}) == 1 for group in found)
    assert sorted(len(group) for group in groups(Plan.from_text(recipe_text(), {"seed": "0:40"}).trials())) == [20, 20]


@pytest.mark.slow
def test_a_vectorized_sweep_is_what_training_alone_makes(tmp_path, blobs):
    """Budgets with rescue, selection and overtime of their own: models and histories to the last bit; and verified, by other processes."""
    plan = Plan.from_text(blobs_recipe(blobs.as_posix(), epochs=8, samples=20), {"seed": [1, 2], "budget": [200, 300]})
    events = []
    result = sweep(plan, tmp_path / "out", runner=Together(), report=events.append)
    assert [(row["state"], row["verified"]) for row in result.rows] == [("done", True)] * 4
    assert (tmp_path / "out" / "logs" / "worker0.log").is_file()
    assert {event.trial for event in events if event.kind == "epoch" and event.epoch == 1} == {row["trial"] for row in result.rows}
    for trial in plan.trials()[::3]:
        train(trial.recipe, tmp_path / trial.name, progress=False)
        assert same_training(tmp_path / trial.name, trial.directory(tmp_path / "out"))
