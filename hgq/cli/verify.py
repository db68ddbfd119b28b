"""`hgq verify`: prove that every representation of a model computes the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _keras, _output
from hgq.cli._pipeline import Clock, Part, choose
from hgq.cli.export import parse_options


def command(
    model: _output.ModelFile,
    keras: Annotated[
        Path | None, typer.Option("--keras", "-k", metavar="MODEL.keras", help="The model it was frozen from.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", metavar="X.npz", help="Real samples, beside corner and random ones.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="The array of the data file.", show_default="x, or the only one")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="At most this many of the real samples.")] = 10_000,
    corners: Annotated[int, typer.Option("--corners", min=0, help="Random samples beside the corner cases.")] = 1_000,
    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Whose firmware to simulate; repeatable.", show_default="rtl, hls4ml")
    ] = None,
    part: Part = None,
    clock_ns: Clock = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the (one) backend.", show_default=False)
    ] = None,
    workdir: Annotated[
        Path | None, typer.Option("--workdir", "-w", help="Keep the simulators there, so that a second run is fast.", show_default=False)
    ] = None,
    as_json: _output.AsJson = False,
) -> None:
    """Compare Keras, the golden integers, the C simulation and the simulated RTL, sample by sample and bit by bit.

    Exit code 1 on any mismatch, with the first divergent node and one minimal input. A missing tool is a skipped check that says how to
    get it.
    """
    from hgq.backend import Options
    from hgq.errors import ConfigError, MismatchError
    from hgq.ir import file
    from hgq.verify import verify

    backends = backend or ["rtl", "hls4ml"]
    extra = parse_options(option or [])
    if extra and len(backends) != 1:
        raise ConfigError("Options belong to one backend.", expected="one --backend with --option", received=", ".join(backends))
    graph = file.load(model)
    loaded = None
    if data is not None:
        from hgq.samples import load_samples

        loaded = load_samples(data, key)
    reference = None
    if keras is not None:
        _keras.load()
        from hgq.freeze import load_model
        from hgq.reference import KerasReference

        reference = KerasReference(load_model(keras))
    options = {}  # of each backend those of the project that `hgq export` writes
    for name in backends:
        chosen_part, chosen_clock, chosen = choose(graph, name, part, clock_ns, extra)
        options[name] = Options(part=chosen_part, clock_ns=chosen_clock, extra=chosen)
    verdict = verify(
        graph,
        loaded,
        reference=reference,
        backends=backends,
        options=options,
        samples=samples,
        corners=corners,
        workdir=workdir,
        tell=_output.progress,
    )
    if as_json:
        _output.json_result(verdict.to_dict())
    else:
        title = f"{graph.name}: every output bit against the golden model, {verdict.samples:,} real and {verdict.corners:,} corner samples"
        _output.table(verdict.rows(), title)
    for check in verdict.skipped:
        _output.warning(f"{check.name} was skipped: {check.skipped} {check.fix or ''}")
    for check in verdict.checks:
        if check.divergence is not None:
            found = check.divergence
            node = f"first at node {found.node} ({found.op}), layer {found.layer or '?'}, " if found.node else ""
            raise MismatchError(
                f"{check.name} differs from the golden model on {check.mismatches:,} of {check.samples:,} samples.",
                where=f"{node}on input {found.input}",
                expected=str(found.expected),
                received=str(found.received),
                fix=found.note or "This is a bug in hgqc or in the backend: please report it with the .hgq file and the input above.",
            )
    if all(check.skipped for check in verdict.checks):
        _output.warning("Nothing was verified.")
    else:
        _output.done("0 mismatches")
