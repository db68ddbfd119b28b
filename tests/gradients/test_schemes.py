"""Gradient quantizers and backward schemes, against their formulas: grids, means and variances, rotations, ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from hgq import gradients
from hgq.errors import ConfigError
from hgq.gradients import HLQ, LUQ, MXFP4, NVFP4, IntegerGradient, hadamard, random
from hgq.gradients.blocks import _e4m3

RNG = np.random.default_rng(17)
SIGMAS = 5.0  # of a normal deviate: once in two million tests


def seeds(count):
    return [tf.constant([11, draw], tf.int32) for draw in range(count)]


def heavy_tailed(shape=(64, 32), sigma=2.5):
    return (RNG.lognormal(0, sigma, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


# ---- random numbers ----------------------------------------


def test_uniform_numbers_are_uniform_and_independent():
    u = random.uniform((1 << 20,), [5, 6]).numpy()
    counts, _ = np.histogram(u, bins=64, range=(0, 1))
    expected = len(u) / 64
    assert (((counts - expected) ** 2) / expected).sum() < 63 + SIGMAS * np.sqrt(2 * 63)
    others = [random.uniform((1 << 20,), seed).numpy() for seed in ([5, 7], [6, 6], [7, 5])]
    for other in (*others, np.roll(u, 1), np.roll(u, 64)):
        assert abs(np.corrcoef(u, other)[0, 1]) < SIGMAS / np.sqrt(len(u))
    assert u.min() >= 0 and u.max() < 1


def test_a_number_depends_on_its_seed_and_index_alone():
    whole = random.uniform((1000,), [1, 2]).numpy()
    np.testing.assert_array_equal(random.uniform((10, 20), [1, 2]).numpy().ravel(), whole[:200])
    compiled = tf.function(lambda: random.uniform((1000,), [1, 2]), jit_compile=True)
    np.testing.assert_array_equal(compiled(), whole)


# ---- LUQ ----------------------------------------


@pytest.mark.parametrize("levels", [1, 3, 5, 7, 8])
def test_luq_values_lie_on_the_grid_and_the_greatest_stays(levels):
    g = heavy_tailed()
    q = LUQ(levels).quantize(tf.constant(g), seeds(1)[0]).numpy()
    alpha = np.abs(g).max() / 2.0 ** (levels - 1)
    grid = np.concatenate([[0.0], alpha * 2.0 ** np.arange(levels)]).astype(np.float32)
    assert np.isin(np.abs(q), grid).all()
    assert len(np.unique(q)) <= 2 * levels + 1
    peak = np.unravel_index(np.abs(g).argmax(), g.shape)
    assert q[peak] == g[peak]
    assert (np.sign(q) * np.sign(g) >= 0).all()


def test_luq4_has_fifteen_codes_at_most():
    g = tf.constant((2.0 ** RNG.uniform(-8, 0, (64, 64)) * RNG.choice([-1, 1], (64, 64))).astype(np.float32))
    assert len(np.unique(gradients.get("luq4").quantize(g, seeds(1)[0]).numpy())) == 15


@pytest.mark.parametrize("name", gradients.names()[1:])
def test_zeros_stay_zero(name):
    scheme = gradients.get(name)
    x, w = tf.zeros((32, 16)), tf.ones((16, 16))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = scheme.product(tf.matmul, x, w, seeds(1)[0])
    for gradient in tape.gradient(y, [x, w], output_gradients=tf.zeros_like(y)):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def variance_between(g, grid):
    """Of stochastic rounding to the neighbours in a sorted grid: (x - low) * (high - x)."""
    magnitude = np.abs(g.astype(np.float64))
    above = np.clip(np.searchsorted(grid, magnitude), 1, len(grid) - 1)
    return np.maximum((magnitude - grid[above - 1]) * (grid[above] - magnitude), 0)


@pytest.mark.parametrize(
    ("scheme", "grid"),
    [
        (LUQ(), lambda peak: peak * np.concatenate([[0.0], 2.0 ** np.arange(-6, 1)])),
        (LUQ(levels=3), lambda peak: peak * np.array([0, 0.25, 0.5, 1])),
        (LUQ(levels=1), lambda peak: peak * np.array([0.0, 1.0])),
        (IntegerGradient(4), lambda peak: peak * np.arange(8) / 7),
        (IntegerGradient(2), lambda peak: peak * np.arange(2)),
        (gradients.get("fp4"), lambda peak: peak * np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6]) / 6),
    ],
    ids=["luq4", "luq3", "luq2", "int4", "int2", "fp4"],
)
def test_stochastic_quantizers_are_unbiased_in_every_decade(scheme, grid):
    """Power: with the theoretical variance, a bias of 5 standard errors of a decade's mean is found; the figures are relative to its mean
    magnitude and below 2 % for the decades that a quantizer resolves."""
    g, draws = heavy_tailed(), 400
    quantize = tf.function(scheme.quantize)
    mean = np.mean([quantize(tf.constant(g), seed).numpy() for seed in seeds(draws)], axis=0)
    variance = variance_between(g, grid(float(np.abs(g).max())))
    decades = np.floor(np.log10(np.abs(g)))
    for decade in np.unique(decades):
        chosen = decades == decade
        error = (np.sign(g[chosen]) * (mean[chosen].astype(np.float64) - g[chosen])).sum()
        spread = np.sqrt(variance[chosen].sum() / draws)
        assert abs(error) <= SIGMAS * spread + 1e-5 * np.abs(g[chosen]).sum(), f"decade {decade}: {error} with a deviation of {spread}"
    total = np.linalg.norm(mean - g) / np.sqrt(variance.sum() / draws)
    assert 0.8 < total < 1.2, "the variance is not that of rounding between neighbours"


# ---- LUQ's scale ----------------------------------------


def quantized_by(scheme, memory, g, seed):
    """The quantized gradient as a product's backward pass makes it: that of ``1 * x`` with respect to x."""
    x, one = tf.zeros_like(g), tf.ones((1, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scheme.product(lambda x, kernel: x * kernel, x, one, seed, memory)
    return tape.gradient(y, x, output_gradients=g).numpy()


def test_hindsight_is_the_moving_average_of_eq_18():
    scheme, memory, expected = LUQ(scale="hindsight", momentum=0.75), tf.Variable(0.0), None
    for seed in seeds(6):
        g = heavy_tailed((8, 8))
        seen, peak = np.abs(g).max(), expected
        q = quantized_by(scheme, memory, tf.constant(g), seed)
        peak = seen if peak is None else peak  # the first step sees itself
        assert np.abs(q).max() <= peak * (1 + 1e-6)
        grid = np.concatenate([[0.0], float(peak) * 2.0 ** np.arange(-6, 1)])
        assert np.abs(np.abs(q)[..., None] - grid).min(-1).max() <= 1e-6 * peak
        expected = 0.25 * seen + 0.75 * peak
        np.testing.assert_allclose(memory.numpy(), expected, rtol=1e-6)


def test_hindsight_clips_what_is_above_and_nothing_else():
    """Above the remembered peak: exactly the peak, always. Below: unbiased, with the variance of rounding between neighbours."""
    g, draws = heavy_tailed((32, 16), 1.0), 300  # with a heavier tail, few elements would make all of the variance
    peak = np.float32(np.quantile(np.abs(g), 0.9))
    scheme, memory = LUQ(scale="hindsight"), tf.Variable(0.0)
    values = []
    for seed in seeds(draws):
        memory.assign(peak)
        values.append(quantized_by(scheme, memory, tf.constant(g), seed))
    above = np.abs(g) > peak
    assert 0.05 < above.mean() < 0.15
    assert (np.stack(values)[:, above] == np.sign(g[above]) * peak).all()
    assert float(scheme.limit(tf.constant(g), peak)) == peak
    variance = variance_between(g[~above], peak * np.concatenate([[0.0], 2.0 ** np.arange(-6, 1)]))
    error = np.mean(values, axis=0)[~above] - g[~above]
    assert abs((np.sign(g[~above]) * error).sum()) <= SIGMAS * np.sqrt(variance.sum() / draws)
    assert 0.8 < np.linalg.norm(error) / np.sqrt(variance.sum() / draws) < 1.2


def test_a_power_of_two_as_scale_clips_nothing_and_makes_all_values_powers():
    scheme, g = LUQ(power_of_two=True), heavy_tailed((32, 16), 1.0)
    values = np.stack([scheme.quantize(tf.constant(g), seed).numpy() for seed in seeds(300)])
    assert set(np.unique(np.frexp(np.abs(values[values != 0]))[0])) == {0.5}
    top = 2.0 ** np.ceil(np.log2(np.abs(g).max()))
    variance = variance_between(g, top * np.concatenate([[0.0], 2.0 ** np.arange(-6, 1)]))
    assert 0.8 < np.linalg.norm(values.mean(0) - g) / np.sqrt(variance.sum() / len(values)) < 1.2


def test_hindsight_knows_no_rows():
    with pytest.raises(ConfigError, match="the rows of the next batch are others"):
        gradients.get("luq4(scale='hindsight', granularity='row')")


def test_nearest_rounding_is_biased():
    g = tf.constant(heavy_tailed())
    for name in ("int4_rn", "fp4_rn", "luq4(unbiased_rounding=False)"):
        q = [gradients.get(name).quantize(g, seed).numpy() for seed in seeds(2)]
        np.testing.assert_array_equal(*q)
        assert np.abs(q[0] - g.numpy()).max() > 0


@pytest.mark.parametrize("samples", [2, 4, 8])
def test_the_variance_of_smp_falls_as_one_over_n(samples):
    g = RNG.normal(size=(64, 32)).astype(np.float32)
    quantize = tf.function(LUQ(samples=samples).quantize)
    values = np.stack([quantize(tf.constant(g), seed).numpy() for seed in seeds(300)]).astype(np.float64)
    theory = variance_between(g, np.abs(g).max() * np.concatenate([[0.0], 2.0 ** np.arange(-6, 1)])).sum()
    assert values.var(axis=0, ddof=1).sum() == pytest.approx(theory / samples, rel=0.05)


def test_a_scale_for_each_row_helps_rows_of_different_size():
    g = tf.constant((RNG.normal(size=(64, 64)) * 10.0 ** RNG.uniform(-3, 3, (64, 1))).astype(np.float32))
    errors = []
    for granularity in ("tensor", "row"):
        q = LUQ(granularity=granularity).quantize(g, seeds(1)[0])
        errors.append(float(tf.reduce_mean(tf.abs(q - g) / tf.reduce_max(tf.abs(g), axis=-1, keepdims=True))))
    assert errors[1] < 0.5 * errors[0]


# ---- block formats ----------------------------------------


def e4m3_grid():
    mantissas = [m / 8 * 2.0**-6 for m in range(8)]
    return np.array([*mantissas, *((1 + m / 8) * 2.0**e for e in range(-6, 9) for m in range(8) if not (e == 8 and m == 7))])


def test_e4m3_rounds_to_its_grid():
    x = np.concatenate([RNG.uniform(0, 460, 500), 10.0 ** RNG.uniform(-5, 2.6, 2000)]).astype(np.float32)
    grid = e4m3_grid()
    nearest = np.abs(grid[None] - np.minimum(x, 448)[:, None].astype(np.float64)).min(1)
    q = _e4m3(tf.constant(x)).numpy()
    assert np.isin(q, grid.astype(np.float32)).all()
    np.testing.assert_allclose(np.abs(q - np.minimum(x, 448)), nearest, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("scheme", "block"), [(NVFP4(rotate=False), 16), (MXFP4(rotate=False), 32)])
def test_blocks_lie_on_the_grid_of_their_scale(scheme, block):
    g = heavy_tailed((40, 64))
    q = scheme.quantize(tf.constant(g), seeds(1)[0]).numpy().reshape(-1, block)
    blocks = g.reshape(-1, block)
    scales = scheme.scales(tf.constant(np.abs(blocks).max(1, keepdims=True))).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(scales > 0, np.abs(q) / scales, 0)
    assert np.isin(np.round(units, 4), [0, 0.5, 1, 1.5, 2, 3, 4, 6]).all()
    assert (np.abs(blocks) <= 6 * scales * (1 + 1e-6))[scales[:, 0] > 0].all(), "stochastic rounding would clip"


# ---- Hadamard ----------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4, 16, 64])
def test_walsh_matrices_are_orthonormal_and_sorted_by_sequency(order):
    w = hadamard.walsh(order)
    np.testing.assert_allclose(w @ w.T, np.eye(order), atol=1e-6)
    np.testing.assert_array_equal((np.diff(np.sign(w), axis=1) != 0).sum(1), np.arange(order))


def test_rotations_are_undone():
    x = tf.constant(RNG.normal(size=(3, 5, 32)).astype(np.float32))
    np.testing.assert_allclose(hadamard.rotate_last_back(hadamard.rotate_last(x, 16), 16), x, atol=1e-5)
    rows = tf.constant(hadamard.walsh(8))
    there = hadamard.project_rows(x, rows)  # 5 rows are filled up to 8
    np.testing.assert_allclose(hadamard.unproject_rows(there, rows, tf.constant(5)), x, atol=1e-5)


def test_a_projection_is_one():
    rows = tf.constant(hadamard.walsh(16)[:8])
    x = tf.constant(RNG.normal(size=(2, 48, 3)).astype(np.float32))
    once = hadamard.unproject_rows(hadamard.project_rows(x, rows), rows, tf.constant(48))
    twice = hadamard.unproject_rows(hadamard.project_rows(once, rows), rows, tf.constant(48))
    np.testing.assert_allclose(once, twice, atol=1e-5)


def test_low_ranks_keep_smooth_data_and_half_of_white_noise():
    rows = tf.constant(hadamard.walsh(16)[:8])
    t = np.linspace(0, 6, 256)
    smooth = np.stack([np.sin(t * a + b) for a, b in itertools.product((0.5, 1, 2, 4), (0, 1, 2))], 1)[None].astype(np.float32)
    white = RNG.normal(size=(8, 256, 12)).astype(np.float32)
    kept = [float(tf.reduce_sum(hadamard.project_rows(tf.constant(x), rows) ** 2)) / (x**2).sum() for x in (smooth, white)]
    assert kept[0] > 0.97 and kept[1] == pytest.approx(0.5, abs=0.03)


# ---- HLQ ----------------------------------------


def dense(x, w):
    return tf.reshape(tf.reshape(x, (-1, x.shape[-1])) @ w, (*x.shape[:-1], w.shape[-1]))


def conv(x, w):
    return tf.nn.conv2d(x, w, 1, "SAME")


PRODUCTS = {
    "batch": (tf.matmul, (48, 12), (12, 16)),
    "positions": (dense, (4, 20, 12), (12, 8)),
    "conv": (conv, (3, 8, 8, 4), (3, 3, 4, 16)),
}


def both(scheme, name, seed, data=None):
    linear, shape, kernel_shape = PRODUCTS[name]
    rng = np.random.default_rng(5)
    x, w = (tf.constant(rng.normal(size=s).astype(np.float32)) for s in (shape, kernel_shape))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = linear(x, w) if scheme is None else scheme.product(linear, x, w, seed)
    g = tf.constant(rng.normal(size=y.shape).astype(np.float32))
    return y, tape.gradient(y, [x, w], output_gradients=g)


@pytest.mark.parametrize("name", PRODUCTS)
def test_hlq_is_exact_at_full_rank_with_many_bits(name):
    exact = HLQ(bits=16, kept_bits=16, rank=16)
    y, received = both(exact, name, seeds(1)[0])
    reference, expected = both(None, name, None)
    np.testing.assert_array_equal(y, reference)
    for a, b in zip(received, expected, strict=True):
        assert float(tf.norm(a - b) / tf.norm(b)) < 5e-4


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("scheme", [HLQ(quantize_kernel=False, rank=16, kept_bits=12), NVFP4(), MXFP4(), LUQ(), gradients.get("int4")])
def test_schemes_without_projection_have_the_gradient_as_their_mean(name, scheme):
    draws = 300
    step = tf.function(lambda seed: both(scheme, name, seed)[1])
    values = [[part.numpy().astype(np.float64) for part in step(seed)] for seed in seeds(draws)]
    _, expected = both(None, name, None)
    for number, exact in enumerate(expected):
        stacked = np.stack([value[number] for value in values])
        error = np.linalg.norm(stacked.mean(0) - exact.numpy())
        assert error < 1.4 * np.sqrt(stacked.var(axis=0, ddof=1).sum() / draws) + 2e-3 * np.linalg.norm(exact)


def test_random_rows_are_unbiased_where_the_lowest_are_not():
    draws, errors = 400, []
    _, (_, exact) = both(None, "batch", None)
    for random_rows in (True, False):
        scheme = HLQ(rank=8, kept_bits=12, random_rows=random_rows)
        step = tf.function(lambda seed, scheme=scheme: both(scheme, "batch", seed)[1][1])
        stacked = np.stack([step(seed).numpy() for seed in seeds(draws)]).astype(np.float64)
        errors.append(np.linalg.norm(stacked.mean(0) - exact) / np.linalg.norm(exact))
        spread = np.sqrt(stacked.var(axis=0, ddof=1).sum() / draws) / np.linalg.norm(exact)
        if random_rows:
            assert errors[0] < 1.4 * spread
    assert errors[1] > 0.3


def test_residual_bytes_are_those_of_the_formula():
    assert HLQ().residual_bytes((256, 784)) == 256 * 784  # full rank along a batch, one byte each
    assert HLQ(kept_bits=4).residual_bytes((256, 784)) == 256 * 784 / 2
    assert HLQ().residual_bytes((32, 8, 8, 16)) == 32 * 64 * 16 / 2  # half the functions
    assert HLQ().residual_bytes((1, 20, 3)) == 2 * 8 * 3  # 20 positions fill two blocks
    assert LUQ().residual_bytes((256, 784)) == 4 * 256 * 784


def test_only_codes_of_the_projected_data_are_kept():
    codes, *_ = HLQ().keep(tf.ones((32, 8, 8, 16)), seeds(1)[0])
    assert codes.dtype == tf.int8 and codes.shape.num_elements() == HLQ().residual_bytes((32, 8, 8, 16))


# ---- strings ----------------------------------------


@pytest.mark.parametrize("name", gradients.names()[1:])
def test_strings_mean_schemes_and_back(name):
    scheme = gradients.get(name)
    assert gradients.get(gradients.serialize(scheme)) == scheme


def test_strings_take_arguments():
    assert gradients.get("luq4(samples=2, granularity='row')") == LUQ(7, 2, "row")
    assert gradients.get("none") is None is gradients.get(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("luk4", r"Not a way to compute gradients[\s\S]*Did you mean 'luq4'"),
        ("luq4(sample=2)", r"no argument 'sample'[\s\S]*levels, samples, granularity"),
        ("luq4(2)", "cannot be read"),
        ("luq4(samples=0)", r"these samples[\s\S]*1 to 1024"),
        ("luq(levels=2.5)", "these levels"),
        ("luq4(granularity='channel')", "'tensor' or 'row'"),
        ("int4(bits=1)", "from 2 to 16"),
        ("hlq(rank=17)", "1 to block=16"),
        ("hlq(block=12)", "power of two"),
        ("nvfp4(block=3)", "power of two"),
    ],
)
def test_refusals_teach(text, message):
    with pytest.raises(ConfigError, match=message):
        gradients.get(text)
