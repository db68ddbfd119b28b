"""Recipes: what is read is what is written, and what is wrong is explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hgq.config import START, Knot, Recipe, Rule
from hgq.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Recipe.from_text(text, "r.toml")
    return str(caught.value)


def test_defaults_are_a_whole_run():
    recipe = Recipe.from_text("")
    assert recipe.data.source == "jsc_sim" and recipe.model.widths == [64, 32, 32] and recipe.budget is None
    assert recipe.rules == [START]


def test_sections_are_read():
    recipe = Recipe.from_text(
        """
        name = "two"
        [data]
        path = "x.npz"
        scaling = "none"
        [[layers]]
        type = "QDense"
        units = 4
        activation = "relu"
        [[layers]]
        type = "Dropout"
        rate = 0.1
        [[rules]]
        match = "^q_dense_0$"
        weight = "kbi(b0=3)"
        [train]
        beta = [{epoch = 0, beta = 0.0, shape = "log"}, {epoch = 10, beta = 1e-5}]
        """
    )
    assert recipe.data.source == "x.npz"
    assert [layer.type for layer in recipe.layers] == ["QDense", "Dropout"]
    assert recipe.layers[0].arguments == {"units": 4, "activation": "relu"}
    assert recipe.rules == [Rule(match="^q_dense_0$", weight="kbi(b0=3)")]
    assert recipe.train.beta == [Knot(epoch=0, beta=0.0, shape="log"), Knot(epoch=10, beta=1e-5)]


@pytest.mark.parametrize("ebops", ["5000", "5000.0", "[5000]"])
def test_one_budget_may_be_a_number(ebops):
    budget = Recipe.from_text(f"[budget]\nebops = {ebops}").budget
    assert budget is not None and budget.ebops == [5000]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[budget]\nebops = [20000, 5000]",
        "[train]\nbeta = 1e-5\nlearning_rate = 1e-3",
        "rules = []",
        '[[layers]]\ntype = "QDense"\nunits = 3\nkernel_quantizer = "kbi(b0=3)"\n[[layers]]\ntype = "Reshape"\ntarget_shape = [3, 1]',
        '[train]\nbeta = [{epoch = 0, beta = 1e-7}, {epoch = 2.5, beta = 1.0, shape = "linear"}]',
    ],
)
def test_toml_round_trip(text):
    recipe = Recipe.from_text(text)
    assert Recipe.from_text(recipe.to_toml()) == recipe
    assert Recipe.from_text(recipe.to_toml()).to_toml() == recipe.to_toml()


@given(st.text(max_size=30), st.lists(st.floats(1, 1e9, allow_nan=False), min_size=1, max_size=4, unique=True), st.floats(1e-9, 1.0))
def test_any_string_and_number_survives_toml(name, budgets, rate):
    recipe = Recipe.from_dict(
        {
            "name": name,
            "rules": [{"match": re.escape(name)}],
            "budget": {"ebops": sorted(budgets, reverse=True)},
            "train": {"learning_rate": rate},
        }
    )
    assert Recipe.from_text(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("[train]\nepoch = 3", r"no such key.*r\.toml: train\.epoch.*Expected: one of epochs.*Did you mean 'epochs'\?"),
        ("[budgt]\nebops = 3", r"r\.toml: budgt.*Did you mean 'budget'\?"),
        ('[[rules]]\nmach = "a"', r"rules\.0\.mach.*Did you mean 'match'\?"),
        ("[train]\nbeta = [{epoch = 0, bta = 1}]", r"train\.beta\.0\.bta.*Did you mean 'beta'\?"),
        ("[budget]\nebop = 3", r"budget\.ebop.*Did you mean 'ebops'\?"),
        ("[train]\nepochs = 0", r"train\.epochs.*greater than 0.*Received: 0"),
        ('[train]\nepochs = "x"', r"train\.epochs.*integer.*Received: 'x'"),
        ("[train]\nlearning_rate = nan", r"train\.learning_rate"),
        ("[train]\nbeta = -1.0", r"train\.beta.*greater than or equal to 0"),
        ("[train]\ndevices = 0", r"wrong value\.(?s:.)*train\.devices\n.*greater than 0; or 'all'"),
        ('[train]\ndevices = "some"', r"train\.devices\n.*a valid integer.*; or 'all'"),
        ("[train]\ndevices = 0\nepochs = 0", r"one of 2 problems"),
        ("[train]\nbeta = [{epoch = 3, beta = 0.0}, {epoch = 3, beta = 1.0}]", r"knots whose epochs increase"),
        ("[train]\nbeta = 1.0\n[budget]\nebops = 2", r"train\.beta or \[budget\], not both"),
        ("[budget]\nwarmup = 0.1", r"budget.*ebops or lut, one of them"),
        ("[budget]\nebops = [1, 2]", r"from large to small"),
        ("[budget]\nebops = []", r"budget.*ebops or lut"),
        ("[budget]\nebops = true", r"budget\.ebops"),
        ("[budget]\nebops = 5\nwarmup = 0.5\nramp = 0.5", r"at most 0\.9"),
        ('[[rules]]\nmatch = "("', r"rules\.0\.match.*regular expression"),
        ('[data]\nname = "a"\npath = "b"', r"not both"),
        ("[[layers]]\nunits = 3", r"layers\.0\.type.*required"),
        ('[model]\nwidths = [3]\n[[layers]]\ntype = "QDense"', r"\[model\] or \[\[layers\]\], not both"),
        ("[train\nepochs = 3", r"not valid TOML.*r\.toml"),
    ],
)
def test_what_is_wrong_is_explained(text, pattern):
    message = refused(text)
    assert re.search(pattern, message, re.DOTALL), message
    assert len(message.splitlines()) < 12


def test_a_missing_or_binary_file_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read the recipe\.(?s:.)*No such file"):
        Recipe.from_toml(tmp_path / "no.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Cannot read the recipe"):
        Recipe.from_toml(tmp_path / "b.toml")


def test_changed_merges_and_validates():
    recipe = Recipe.from_text("[train]\nbeta = 1e-5\nepochs = 7\n[data]\nvalidation = 0.3")
    other = recipe.changed(train={"epochs": 9}, budget={"ebops": 100})
    assert other.train.epochs == 9 and other.train.beta is None and other.budget is not None and other.data.validation == 0.3
    assert recipe.train.epochs == 7
    with pytest.raises(ConfigError):
        recipe.changed(train={"epochs": -1})


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_example_recipes_are_recipes(path):
    recipe = Recipe.from_toml(path)
    assert Recipe.from_text(recipe.to_toml()) == recipe


def test_no_keras():
    code = "import sys, hgq.config, hgq.datasets; sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
