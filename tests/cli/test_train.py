"""`hgq train` and `hgq demo` from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.blobs import recipe

MAIN = [sys.executable, "-c", "from hgq.cli import main; main()"]


@pytest.fixture
def place(tmp_path):
    rng = np.random.default_rng(7)
    centres, y = rng.normal(0, 1.5, (3, 4)), rng.integers(0, 3, 1200)
    x = (centres[y] + rng.normal(0, 1, (1200, 4))).astype(np.float32)
    np.savez(tmp_path / "blobs.npz", x_train=x[:900], y_train=y[:900], x_test=x[900:], y_test=y[900:])
    return tmp_path


def hgq(place, *arguments, timeout=400):
    return subprocess.run(
        [*MAIN, *arguments], cwd=place, capture_output=True, text=True, timeout=timeout, env={**os.environ, "COLUMNS": "200"}
    )


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("[train]\nepoch = 3", ["train.epoch", "Did you mean 'epochs'?"]),
        ("[train", ["not valid TOML"]),
    ],
)
def test_a_bad_recipe_is_one_screen_and_exit_2(place, text, pieces):
    (place / "r.toml").write_text(text)
    done = hgq(place, "train", "r.toml", "--out", "run")
    assert done.returncode == 2 and all(piece in done.stderr for piece in pieces) and len(done.stderr.splitlines()) < 20
    assert not (place / "run").exists() and done.stdout == ""


@pytest.mark.slow
def test_keras_runs_on_tensorflow_whatever_else_is_configured(place):
    (place / "keras").mkdir()
    (place / "keras" / "keras.json").write_text('{"backend": "torch"}')
    code = "from hgq.cli import _keras; _keras.load(); import hgq.layers"
    other = {**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": "keras"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=other, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_bad_budgets_of_the_demo(place):
    done = hgq(place, "demo", "--budgets", "5000,many")
    assert done.returncode == 2 and "--budgets" in done.stderr and not (place / "runs").exists()
    done = hgq(place, "demo", "--budgets", "1500,5000")
    assert done.returncode == 2 and "from large to small" in done.stderr


@pytest.mark.slow
def test_train_interrupt_resume(place):
    (place / "r.toml").write_text(recipe(samples=100, epochs=4000))
    running = subprocess.Popen(
        [*MAIN, "train", "r.toml", "--out", "run"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not (place / "run" / "checkpoint" / "state.npz").exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=100)
    assert running.returncode == 130 and "Interrupted. Continue with: hgq train r.toml --out run --resume" in stderr
    refused = hgq(place, "train", "r.toml", "--out", "run")
    assert refused.returncode == 2 and "--resume" in refused.stderr
    other = hgq(place, "train", "r.toml", "--out", "run", "--resume", "--epochs", "60")
    assert other.returncode == 2 and "another recipe" in other.stderr


@pytest.mark.slow
def test_train_to_the_end(place):
    (place / "r.toml").write_text(recipe(samples=100, epochs=40))
    done = hgq(place, "train", "r.toml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"] and summary["verify"]["ok"] and 180 <= summary["points"][0]["ebops"] <= 300
    names = {path.name for path in (place / "run").iterdir()}
    assert names >= {"recipe.toml", "history.csv", "model.keras", "model.hgq", "pareto", "estimate.json", "verify.json", "report.html"}
    again = hgq(place, "train", "r.toml", "--out", "run", "--resume")
    assert again.returncode == 0 and "run/report.html" in again.stdout and "300" in again.stdout


@pytest.mark.slow
def test_a_missed_budget_is_exit_1(place):
    (place / "r.toml").write_text(recipe(samples=100, epochs=2))
    done = hgq(place, "train", "r.toml", "--out", "run", "--ebops", "5", "--samples", "0")
    assert done.returncode == 1 and "A budget was missed" in done.stderr and "MISSED" in done.stdout
