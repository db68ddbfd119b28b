"""The examples run. Their training is cut to a few epochs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ENV = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.mark.slow
def test_jets_in_plain_python(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "jets.py", "3", "5000", str(tmp_path / "out")],
        cwd=tmp_path,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "EBOPs of 5000 asked for" in done.stdout, done.stderr[-3000:]
    assert (tmp_path / "out" / "model.hgq").is_file() and (tmp_path / "out" / "rtl").is_dir()
    assert "keras    exact" in done.stdout and "rtl      exact" in done.stdout


@pytest.mark.slow
def test_jets_recipe(tmp_path):
    code = "from hgq.cli import main; main()"
    arguments = [
        "train",
        str(EXAMPLES / "recipes" / "jets.toml"),
        "--epochs",
        "2",
        "--ebops",
        "50000",
        "--samples",
        "200",
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stderr[-3000:]  # two epochs need not reach a budget
    assert (tmp_path / "run" / "report.html").is_file() and "MISMATCH" not in done.stdout


@pytest.mark.slow
def test_third_party_layers(tmp_path):
    done = subprocess.run([sys.executable, EXAMPLES / "third_party.py"], cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "keras    exact" in done.stdout and "rtl      exact" in done.stdout
