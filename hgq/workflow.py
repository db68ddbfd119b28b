"""After training: estimate, verify and report a run directory. What `hgq train` and `hgq demo` do once there is a ``model.hgq``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgq.backend import Options
from hgq.config import Recipe
from hgq.errors import HGQError
from hgq.estimate import Estimate, estimate
from hgq.estimate.plan import remembered
from hgq.ir import file as hgq_file
from hgq.output import write_file_atomically
from hgq.report import report
from hgq.verify import Verdict, verify


@dataclass(frozen=True)
class Finished:
    """What is known of a run's main model.

    Args:
        estimates: By backend; a backend that cannot be estimated is missing.
        verdict: The verification, or None where the recipe skips it.
        report: ``report.html``.
        notes: What could not be done, and what to do about it.
    """

    estimates: dict[str, Estimate]
    verdict: Verdict | None
    report: Path
    notes: tuple[str, ...]


def finish(
    directory: str | os.PathLike[str],
    *,
    samples: int | None = None,
    model: Any = None,
    workdir: str | os.PathLike[str] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Finished:
    """Estimate, verify and report a run; writes ``estimate.json``, ``verify.json`` and ``report.html``.

    Args:
        directory: A run directory with ``recipe.toml``, ``model.keras`` and ``model.hgq``.
        samples: Test samples to verify on; None: as the recipe says; 0 skips the verification.
        model: The Keras model, if it is loaded already.
        workdir: Where simulators are built and kept.
        tell: Called with what is going on.

    Raises:
        HGQError: what the steps raise; see there. A missing tool or a backend that cannot take the model is a note instead.
    """
    directory = Path(directory)
    recipe = Recipe.from_toml(directory / "recipe.toml")
    graph = hgq_file.load(directory / "model.hgq")
    export, notes = recipe.export, []
    estimates: dict[str, Estimate] = {}
    for backend in export.backends:
        tell(f"estimating {backend} …")
        try:
            options = _options(graph, recipe, backend)
            estimates[backend] = estimate(graph, options.part, options.clock_ns, backend, options.extra)
        except HGQError as error:
            notes.append(f"No estimate for {backend}: {error.what}{f' {error.fix}' if error.fix else ''}")
    if estimates:
        main = next(iter(estimates.values())).to_dict()
        _write(directory / "estimate.json", {**main, "by_backend": {name: value.to_dict() for name, value in estimates.items()}})
    verdict = None
    wanted = recipe.verify.samples if samples is None else samples
    if wanted:
        verdict = _verify(graph, recipe, directory, wanted, model, workdir, tell)
        _write(directory / "verify.json", verdict.to_dict())
        notes += [f"Not verified: {check.name} ({check.skipped}){f'. {check.fix}' if check.fix else ''}" for check in verdict.skipped]
    tell("writing the report …")
    return Finished(estimates, verdict, report(directory), tuple(notes))


def _verify(graph: Any, recipe: Recipe, directory: Path, samples: int, model: Any, workdir: Any, tell: Callable[[str], None]) -> Verdict:
    from hgq.freeze import load_model
    from hgq.reference import KerasReference
    from hgq.training import load_data
    from hgq.training.user_model import user_function

    if recipe.model.build:  # its module may define layers that the .keras file needs
        user_function(recipe.model.build)
    model = load_model(directory / "model.keras") if model is None else model
    options = {name: _options(graph, recipe, name) for name in recipe.export.backends}
    return verify(
        graph,
        load_data(recipe).x_test,
        reference=KerasReference(model),
        backends=recipe.export.backends,
        options=options,
        samples=samples,
        workdir=workdir,
        tell=tell,
    )


def _options(graph: Any, recipe: Recipe, backend: str) -> Options:
    """As the recipe says, or with the pipeline that was chosen for its latency."""
    chosen = remembered(graph) if backend == "rtl" else None
    if chosen is None:
        return Options(part=recipe.export.part, clock_ns=recipe.export.clock_ns)
    return Options(part=chosen.part, clock_ns=chosen.clock_ns, extra=chosen.options)


def _write(path: Path, content: Any) -> None:
    write_file_atomically(path, json.dumps(content, indent=1) + "\n", force=True)
