"""`hgq export`: a frozen model becomes a firmware project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hgq.cli import _output
from hgq.cli._pipeline import DEFAULT_CLOCK, DEFAULT_PART, OF_THE_MODEL, choose

if TYPE_CHECKING:
    from hgq.backend import Options

DEFAULT_NAME = "hgq_top"


def command(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL.hgq", help="A frozen model.", show_default=False)] = None,
    backend: Annotated[str, typer.Option("--backend", "-b", help="rtl, hls4ml, qonnx, or one that you installed.")] = "rtl",
    part: Annotated[
        str | None,
        typer.Option("--part", "-p", help="Device, as its vendor spells it.", show_default=f"the board's, {OF_THE_MODEL}{DEFAULT_PART}"),
    ] = None,
    clock_ns: Annotated[
        float | None,
        typer.Option("--clock-ns", help="Clock period in nanoseconds.", show_default=f"the board's, {OF_THE_MODEL}{DEFAULT_CLOCK:g}"),
    ] = None,
    latency_ns: Annotated[
        float | None, typer.Option("--latency-ns", help="Cut the pipeline of the RTL so that it takes no longer.", show_default=False)
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="axis: streams, registers, benches and a board's project around the RTL.")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", help="Board of the template: one that comes with hgqc, or a TOML file.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the project and of its top module or function.")] = DEFAULT_NAME,
    option: Annotated[list[str] | None, typer.Option("--option", "-O", metavar="KEY=VALUE", help="An option of the backend.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Directory to write.", show_default="NAME_BACKEND")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="Write OUT.zip beside the directory too.")] = False,
    force: _output.Force = False,
    list_options: Annotated[bool, typer.Option("--list-options", help="List the options of the backend, and leave.")] = False,
    as_json: _output.AsJson = False,
) -> None:
    """Write a frozen model as a firmware project: RTL, or C++ for an HLS tool. The same input gives the same bytes."""
    if model is None and not list_options:
        raise typer.BadParameter("Name the model to export.", param_hint="MODEL.hgq")
    from hgq import plugins

    chosen = plugins.backend(backend)
    if model is None or list_options:
        rows = [{"option": key, "meaning": text} for key, text in chosen.options().items()]
        _output.json_result(rows) if as_json else _output.table(rows, f"Options of {backend}", ["option", "meaning"])
        return
    from hgq.ir import file
    from hgq.output import refuse_existing, refuse_existing_file

    # All that can be refused is refused before the work starts.
    options = options_of(part, clock_ns, name, parse_options(option or []), backend, template, board)
    target = out or Path(f"{name}_{backend}")
    zipped = target.with_name(target.name + ".zip")
    if not target.is_dir() or any(target.iterdir()):
        refuse_existing(target, force)
    if archive:
        refuse_existing_file(zipped, force)
    graph = file.load(model)
    if board is not None:
        part, clock_ns = options.part, options.clock_ns
    part, clock_ns, extra = choose(graph, backend, part, clock_ns, dict(options.extra), latency_ns)
    options = replace(options, part=part, clock_ns=clock_ns, extra=extra)
    _output.progress(f"{backend}: lowering {len(graph.nodes)} nodes …")
    project = chosen.emit(graph, options)
    written = [project.write(target, force=force)]
    if archive:
        written.append(project.archive(zipped, force=force))
    if as_json:
        content = {"backend": backend, "digest": project.digest(), "written": written, "files": list(project.files)}
        _output.json_result(content)
        return
    for path in written:
        _output.result(str(path))
    for path in project.files:
        _output.result(f"  {path}  {len(project.data(path)):,} B")
    _output.done(f"{len(project.files)} files, digest {project.digest()[:16]}")


def options_of(
    part: str | None, clock_ns: float | None, name: str, extra: dict[str, str], backend: str, template: str | None, board: str | None
) -> Options:
    """What the arguments of `command` ask for; a board brings its part and its clock.

    Raises:
        ConfigError: a template of another backend, a board without one, or the reverse.
    """
    from hgq.backend import Options
    from hgq.errors import ConfigError

    if template is None and board is None:
        clock_ns = DEFAULT_CLOCK if clock_ns is None else clock_ns
        return Options(part=DEFAULT_PART if part is None else part, clock_ns=clock_ns, name=name, extra=extra)
    if backend != "rtl" or template is None or board is None:
        raise ConfigError(
            "A template goes around the RTL, for a board.",
            where="--template and --board",
            expected="both, with --backend rtl",
            received=f"--template {template}, --board {board}, --backend {backend}",
            fix="For hls4ml's own accelerator projects take --backend hls4ml --option backend=VivadoAccelerator."
            if backend == "hls4ml"
            else "hgq export --template axis --board vu13p_trigger, for example; docs/templates.md lists the boards.",
        )
    from hgq.plugins import backend as backend_named

    found = backend_named("rtl").on_board(board)  # type: ignore[attr-defined]
    more = {**extra, "template": template, "board": board}
    clock_ns = found.clock_ns if clock_ns is None else clock_ns
    return Options(part=found.part if part is None else part, clock_ns=clock_ns, name=name, extra=more)


def parse_options(pairs: list[str]) -> dict[str, str]:
    """``["a=1"]`` -> ``{"a": "1"}``.

    Raises:
        ConfigError: one without ``=``, or one that is given twice.
    """
    from hgq.errors import ConfigError

    parsed: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError("An option of the backend has no value.", expected="--option KEY=VALUE", received=repr(pair))
        if key in parsed:
            raise ConfigError("An option of the backend is given twice.", where=key, received=f"{parsed[key]!r} and {value!r}")
        parsed[key] = value
    return parsed
