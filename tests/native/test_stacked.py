"""Native ops on many models at once, and on many elements with bits of their own: what each model, or each part, gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgq import native

ADAM = {"alpha_of": [1, 0], "low": [-1.0, 1.0], "high": [1.0, 0.0], "one_minus_beta_1": 0.1, "one_minus_beta_2": 0.001, "epsilon": 1e-7}
FIXED = {"rounding": 0, "follows": False, "i_low": -20.0, "i_high": 60.0}


@pytest.fixture
def ops():
    found = native.ops_for(tf.constant(0.0))
    if found is None:
        pytest.skip(f"no native ops: {native.state().text}")
    return found


def test_adam_of_many_models_with_rates_of_their_own(ops):
    rng = np.random.default_rng(0)
    x, m, v, g = ([np.abs(rng.normal(size=(3, *shape))).astype(np.float32) for shape in ((4, 5), (7,))] for _ in range(4))
    alphas = rng.uniform(1e-3, 0.5, (3, 2)).astype(np.float32)

    def updated(choice, models, rates):
        state = [[tf.Variable(array[choice]) for array in arrays] for arrays in (x, m, v)]
        handles = [[variable.handle for variable in row] for row in state]
        ops.hgqc_adam(*handles, [array[choice] for array in g], rates, models=models, **ADAM)
        return [variable.numpy() for row in state for variable in row]

    together = updated(slice(None), 3, alphas)
    for model in range(3):
        for whole, alone in zip(together, updated(model, 1, alphas[model]), strict=True):
            np.testing.assert_array_equal(whole[model], alone)
    with pytest.raises(tf.errors.InvalidArgumentError, match="number of models"):
        updated(slice(0, 1), 2, alphas[:2])


@pytest.mark.parametrize("overflow", [1, 4])
@pytest.mark.parametrize("kbi", [True, False])
def test_many_elements_with_bits_of_their_own(ops, overflow, kbi):
    """More than one part of the kernel's (2,048 elements), the last one short: equal to the same in pieces that are none of its parts."""
    rng = np.random.default_rng(1)
    count = 5001
    x, up = rng.normal(0, 3, (2, count)).astype(np.float32)
    k, i = rng.integers(0, 2, count).astype(np.float32), rng.integers(-1, 4, count).astype(np.float32)
    width = rng.uniform(0, 6, count).astype(np.float32)
    settings = {**FIXED, "kbi": kbi, "overflow": overflow}

    def run(piece):
        formats = (k[piece], i[piece], width[piece])
        values = [ops.hgqc_fixed(x[piece], *formats, **settings), *ops.hgqc_fixed_constant_bits(x[piece], *formats, share=0.5, **settings)]
        if overflow == 4:
            values += ops.hgqc_fixed_saturate_gradient(up[piece], x[piece], *formats, **settings)
        else:
            values.append(ops.hgqc_fixed_round_gradient(up[piece], x[piece], *formats, **settings))
        return [value.numpy() for value in values]

    pieces = [run(slice(begin, begin + 700)) for begin in range(0, count, 700)]
    for whole, parts in zip(run(slice(None)), zip(*pieces, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))
        assert np.unique(whole).size > 1
