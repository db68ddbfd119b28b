"""Imported HGQ2 models against what HGQ2 itself predicts: files and predictions made by `make_hgq2_references.py`."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hgq import cache, verify
from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.imports import import_model
from hgq.ir import interpret
from tests.imports.make_hgq2_references import REFUSED, VARIANTS, samples
from tests.imports.references import unpacked

SLOW = ("mlp_saturating", "jets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference files."""
    return unpacked("hgq2", tmp_path_factory)


def check(folder: Path, name: str) -> None:
    imported = import_model(folder / f"{name}.keras")
    assert imported.origin == "hgq2"
    with np.load(folder / f"{name}.npz") as stored:
        y = stored["y"]
    x = samples(imported.model.input_shape[1:], 21)
    assert len(y) == 1000 and len(np.unique(y)) > 20
    np.testing.assert_array_equal(np.asarray(imported.model(x, training=False)), y)
    np.testing.assert_array_equal(next(iter(interpret.run(freeze(imported.model), x).values())), y)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in VARIANTS])
def test_predictions_are_those_of_hgq2(name, folder):
    check(folder, name)


@pytest.mark.parametrize("name", REFUSED)
def test_layers_of_another_arithmetic_are_refused(name, folder):
    with pytest.raises(ConfigError, match=r"(?s)layer (heads|memory).*hgq\.Q(MultiHeadAttention|GRU)\n.*with the same weights"):
        import_model(folder / f"{name}.keras")


def test_every_entry_of_a_table_is_compared(folder, monkeypatch):
    monkeypatch.setattr("hgq.imports.hgq2_tables.EPSILON", 0.01)  # as if HGQ2 computed 1/(x + 0.01)
    with pytest.raises(ConfigError, match=r"(?s)other numbers of this table.*layer stable, inv_table.*differ in the last bit"):
        import_model(folder / "softmax.keras")


def test_what_cannot_be_had_is_named(folder, tmp_path):
    with zipfile.ZipFile(folder / "mlp.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for change, message in (
        (lambda layer: layer["config"].update(activation="tanh"), r"(?s)no fixed-point function.*layer b"),
        (lambda layer: layer["config"]["kq_conf"]["config"].update(overflow_mode="WRAP_SM"), r"(?s)quantizer of HGQ2.*layer b, kq"),
        (lambda layer: layer.update(class_name="QConvT1D"), r"(?s)layer of HGQ2 cannot.*QConvT1D"),
    ):
        config = json.loads(parts["config.json"])
        change(next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == "b"))
        with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
            for name, content in {**parts, "config.json": json.dumps(config)}.items():
                archive.writestr(name, content)
        with pytest.raises(ConfigError, match=message):
            import_model(tmp_path / "changed.keras")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp_saturating", "conv", "tables"])
def test_firmware_of_an_imported_model_is_exact(name, folder, tmp_path):
    model = import_model(folder / f"{name}.keras").model
    verdict = verify.verify(freeze(model), samples(model.input_shape[1:], 21), backends=("rtl", "hls4ml"), corners=100, workdir=tmp_path)
    assert [check.mismatches for check in verdict.checks] == [0] * len(verdict.checks) and len(verdict.checks) >= 2


@pytest.mark.slow
def test_references_are_what_hgq2_makes(tmp_path):
    """Models made now by HGQ2 in an environment of its own, once in the cache."""
    home = cache.folder("venvs", "hgq2-0.2.0")
    python = home / "bin" / "python"
    if not (home / "ready").is_file():
        packages = ("hgq2==0.2.0", "tensorflow>=2.18")
        for command in ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-q", *packages]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
            if done.returncode:
                pytest.skip(f"HGQ2 cannot be installed here: {done.stderr[-300:]}")
        (home / "ready").touch()
    script = Path(__file__).with_name("make_hgq2_references.py")
    names = ["mlp", "mlp_saturating", "tables", "softmax"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    environment.pop("PYTHONPATH", None)  # else our own `hgq` would be in its way
    subprocess.run([str(python), str(script), str(tmp_path), *names], check=True, capture_output=True, timeout=900, env=environment)
    for name in names:
        check(tmp_path, name)
