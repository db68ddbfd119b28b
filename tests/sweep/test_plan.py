"""What a sweep is asked for becomes trials, or is refused before anything begins."""

from __future__ import annotations

import pytest

from hgq.errors import ConfigError
from hgq.sweep import Plan
from hgq.sweep.axes import axis, parsed


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:4", [0, 1, 2, 3]),
        ("10:0:-5", [10, 5]),
        ("1e-3, 5e-3", [1e-3, 5e-3]),
        ("1000,2_000", [1000, 2000]),
        ("[20000, 5000], [1500]", [[20000, 5000], [1500]]),
        ("adam,sgd", ["adam", "sgd"]),
        ("none, 3, true", ["none", 3, True]),
        ('"a,b"', ["a,b"]),
    ],
)
def test_values(text, values):
    assert parsed(text, "here") == values


@pytest.mark.parametrize("text", ["4:4", "0:10:0", "0:100000000", "3:0"])
def test_empty_and_endless_ranges(text):
    with pytest.raises(ConfigError, match="empty or too long"):
        parsed(text, "here")


def test_names_of_axes():
    assert axis("seeds", "0:2").path == "train.seed" and axis("budget", "5").path == "budget.ebops"
    assert axis("budget", "5", "lut").path == "budget.lut" and axis("layers.0.units", [4]).label == "units"
    assert axis("layers.0", [4]).label == "layers0"


def test_every_combination_last_axis_fastest(recipe_text):
    plan = Plan.from_text(recipe_text(more='[sweep]\nseed = "3:5"\nbudget = [200, [300, 100]]\ntrain.learning_rate = [0.01]\n'))
    trials = plan.trials()
    assert [(t.recipe.train.seed, t.recipe.budget.ebops) for t in trials] == [(3, [200]), (3, [300, 100]), (4, [200]), (4, [300, 100])]
    assert [t.name for t in trials] == [f"seed{s}-ebops{b}-learning_rate0.01" for s in (3, 4) for b in ("200", "300_100")]
    assert all(t.recipe.budget.tolerance == 0.4 and t.recipe.train.learning_rate == 0.01 for t in trials)


def test_toml_and_back(recipe_text):
    plan = Plan.from_text(recipe_text(), {"seed": "0:3", "train.optimizer": "adam,sgd", "budget": "[300,200],100"})
    again = Plan.from_text(plan.to_toml())
    assert [(t.name, t.recipe.to_toml()) for t in again.trials()] == [(t.name, t.recipe.to_toml()) for t in plan.trials()]
    assert len(again.trials()) == 12


def test_beta_and_budget_replace_each_other(recipe_text):
    (trial,) = Plan.from_text(recipe_text(), {"beta": "1e-6"}).trials()
    assert trial.recipe.budget is None and trial.recipe.train.beta == 1e-6
    (trial,) = Plan.from_text("[train]\nbeta = 1e-6", {"lut": "500"}).trials()
    assert trial.recipe.train.beta is None and trial.recipe.budget.lut == [500]


def test_axes_of_the_command_line_replace_those_of_the_file(recipe_text):
    plan = Plan.from_text(recipe_text(more="[sweep]\nseeds = [1, 2]\n"), {"seed": [9]})
    assert [trial.recipe.train.seed for trial in plan.trials()] == [9]


def test_elements_of_lists_and_values_too_long_for_a_name(recipe_text):
    text = recipe_text().replace("[model]\nwidths = [6]\n", "") + '[[layers]]\ntype = "QDense"\nunits = 5\n[[rules]]\nmatch = ""\n'
    weights = ["weight(b0=4, adapt_to_magnitude=True)", "weight(b0=6, adapt_to_magnitude=True)"]
    trials = Plan.from_text(text, {"layers.0.units": [4, 7], "rules.0.weight": weights}).trials()
    assert [(t.recipe.layers[0].arguments["units"], t.recipe.rules[0].weight) for t in trials] == [(u, w) for u in (4, 7) for w in weights]
    assert [t.name for t in trials] == ["units4-weight_0", "units4-weight_1", "units7-weight_0", "units7-weight_1"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "over nothing"),
        ({"train.sed": [1]}, "no such key"),
        ({"seed": []}, "no values"),
        ({"seed": [1, 1]}, "a value twice"),
        ({"seed": [-1]}, "wrong value"),
        ({"seed": 3}, "a list of values"),
        ({"beta": [1e-6], "budget": [100]}, "over beta and over a field of the budget"),
        ({"seed": [1], "a b": [1]}, "no field of a recipe"),
        ({"seed": list(range(200)), "budget": list(range(100, 200))}, "too large"),
        ({"layers.3.units": [1]}, "element that is not there"),
        ({"name.x": [1]}, "field of a field"),
    ],
)
def test_refusals(axes, message, recipe_text):
    with pytest.raises(ConfigError, match=message):
        Plan.from_text(recipe_text(), axes)
