"""Which trials can be trained together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hgq.sweep.trial import Trial

APART = {
    "name": (),
    "train": ("seed", "beta", "epochs", "finetune", "learning_rate", "schedule", "final_rate", "gradient_health"),
    "budget": (),
    "export": (),
    "verify": (),
}
"""What trials of one stack may differ in: values of variables, and what happens between epochs. Of a section without keys, all."""
MOST = 32
"""Models of one stack: more would gain nothing, and take memory."""


def alike(trial: Trial) -> str:
    """Equal for trials that one step can train."""
    content: dict[str, Any] = trial.recipe.model_dump(mode="json")
    for section, keys in APART.items():
        if not keys:
            content.pop(section, None)
        else:
            content[section] = {key: value for key, value in content[section].items() if key not in keys}
    return json.dumps([content, trial.recipe.resource], sort_keys=True)


def groups(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that one step can train together, in stacks of even size."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(alike(trial), []).append(trial)
    made = []
    for group in found.values():
        count = -(-len(group) // MOST)
        made += [group[number::count] for number in range(count)]
    return made
