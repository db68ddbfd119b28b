"""Data: the bundled set is the one its README states, splits are honest, and bad files are explained."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from hgq import datasets
from hgq.errors import DataError


def small(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(3, 2, (100, 4)).astype(np.float32),
        "y_train": rng.integers(0, 3, 100),
        "x_test": rng.normal(3, 2, (30, 4)),
        "y_test": rng.integers(0, 3, 30),
    }
    arrays.update(changes)
    return {name: value for name, value in arrays.items() if value is not None}


@pytest.fixture
def saved(tmp_path):
    def save(**changes):
        np.savez(tmp_path / "d.npz", **small(**changes))
        return tmp_path / "d.npz"

    return save


def test_bundled_file_is_the_one_in_its_readme():
    folder = files("hgq") / "data"
    data, readme = (folder / "jsc_sim.npz").read_bytes(), (folder / "README.md").read_text()
    assert hashlib.sha256(data).hexdigest() in readme and f"{len(data):,} B" in readme


def test_bundled_set():
    data = datasets.load("jsc_sim")
    assert data.x_train.shape == (29750, 16) and data.x_val.shape == (5250, 16) and data.x_test.shape == (14000, 16)
    assert data.classes == ("g", "q", "t", "w", "z") and data.outputs == 5 and len(data.features) == 16
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int32
    assert np.bincount(data.y_test).tolist() == [2800] * 5


def test_scaling_is_fitted_on_the_training_part_alone(saved):
    data = datasets.load(saved(), validation=0.2, seed=5)
    np.testing.assert_allclose(data.x_train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.x_train.std(0), 1, atol=1e-6)
    raw = small()
    np.testing.assert_allclose(data.x_test * data.scale + data.offset, raw["x_test"], rtol=1e-5, atol=1e-5)
    everything = np.concatenate([data.x_train, data.x_val]) * data.scale + data.offset
    np.testing.assert_allclose(np.sort(everything, 0), np.sort(raw["x_train"], 0), rtol=1e-4, atol=1e-5)
    assert abs(raw["x_train"].mean() - data.offset.mean()) > 1e-6


def test_unit_scaling_is_a_power_of_two(saved):
    raw, data = datasets.load(saved(), scaling="none"), datasets.load(saved(), scaling="unit")
    (scale,) = np.unique(data.scale)
    assert np.log2(scale) % 1 == 0 and not data.offset.any()
    np.testing.assert_array_equal(data.x_train * scale, raw.x_train)
    assert 0.5 < np.abs(data.x_train).max() <= 1


def test_no_scaling(saved):
    data = datasets.load(saved(), scaling="none")
    np.testing.assert_array_equal(data.x_test, small()["x_test"].astype(np.float32))


def test_a_constant_feature_becomes_zero(saved):
    x = small()["x_train"]
    x[:, 1] = 7
    data = datasets.load(saved(x_train=x))
    assert (data.x_train[:, 1] == 0).all() and data.scale[1] == 1


def test_split_depends_on_the_seed_alone(saved):
    path = saved()
    a, b, c = (datasets.load(path, seed=seed).y_val for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_class_names_and_columns(saved):
    data = datasets.load(saved(classes=np.array(["a", "b", "c"]), y_train=small()["y_train"][:, None]))
    assert data.classes == ("a", "b", "c") and data.y_train.ndim == 1


def test_regression(saved):
    data = datasets.load(saved(y_train=np.ones((100, 2)), y_test=np.ones((30, 2))), regression=True)
    assert data.outputs == 2 and data.classes == () and data.y_train.dtype == np.float32


def test_other_names(tmp_path):
    np.savez(tmp_path / "d.npz", a=small()["x_train"], **small(x_train=None))
    assert datasets.load(tmp_path / "d.npz", keys={"x_train": "a"}).x_train.shape == (85, 4)


def bad(x, value):
    x = np.array(x)
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"x_train": bad(small()["x_train"], np.nan)}, r"NaN or infinity.*first at index \(7, 2\).*1 of 400"),
        ({"x_test": bad(small()["x_test"], np.inf)}, r"NaN or infinity.*x_test"),
        ({"x_test": bad(small()["x_test"], 1e300)}, r"NaN or infinity.*x_test"),
        ({"x_train": None}, r"array is missing.*x_train.*y_train"),
        ({"x_train": np.ones(100)}, r"wrong shape.*\(100,\)"),
        ({"x_test": np.ones((30, 5))}, r"differ in shape.*4.*5"),
        ({"y_train": np.ones(99, int)}, r"differ in number.*100 and 99"),
        ({"y_train": np.eye(3)[small()["y_train"]]}, r"must be classes.*argmax"),
        ({"y_test": -np.ones(30, int)}, r"must be classes"),
        ({"x_train": np.array([["a"] * 4] * 100)}, r"must be numbers"),
        ({"classes": np.array(["a"])}, r"more classes than there are"),
        ({"x_train": np.ones((10, 4)), "y_train": np.ones(10, int)}, r"Too few rows"),
        ({"x_train": np.array([None] * 100)}, r"Cannot read the data.*Object arrays"),
    ],
)
def test_bad_arrays_are_explained(saved, changes, pattern):
    with pytest.raises(DataError) as caught:
        datasets.load(saved(**changes))
    assert re.search(pattern, str(caught.value), re.DOTALL), caught.value


def test_bad_files_are_explained(tmp_path):
    with pytest.raises(DataError, match=r"(?s)no such data set or file.*Did you mean 'jsc_sim'"):
        datasets.load("jscsim")
    whole = tmp_path / "d.npz"
    np.savez(whole, **small())
    content = whole.read_bytes()
    for name, data in (("half.npz", content[: len(content) // 2]), ("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="Cannot read the data"):
            datasets.load(tmp_path / name)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="single array"):
        datasets.load(tmp_path / "one.npy")
