"""What the command line prints. stdout carries the result and nothing else; progress, warnings and errors go to stderr."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hgq.errors import HGQError

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.hgq", help="A frozen model.", show_default=False)]


def result(text: str) -> None:
    """A line of the result, on stdout."""
    sys.stdout.write(text + "\n")


def json_result(value: Any) -> None:
    """The whole result as JSON on stdout. NumPy values, dataclasses, paths and mappings are understood; NaN becomes null."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def table(rows: Sequence[Mapping[str, Any]], title: str | None = None, columns: Sequence[str] | None = None) -> None:
    """Rows of equal keys as a table on stdout; a pipe gets every column unshortened."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        numeric = all(isinstance(plain(row.get(column)), int | float | None) for row in rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(row.get(column)) for column in columns))
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False, markup=False).print(drawn)
        return
    text = io.StringIO()
    Console(file=text, highlight=False, markup=False, width=10_000).print(drawn)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in text.getvalue().splitlines()))


def progress(text: str) -> None:
    """Something that is going on, on stderr."""
    _stderr().print(text, style="dim", markup=False, highlight=False)


def done(text: str) -> None:
    """Something that went well, on stderr."""
    _stderr().print(f"✓ {text}", style="green", markup=False, highlight=False)


def warning(text: str) -> None:
    """Something the user should know, on stderr."""
    _stderr().print(f"! {text}", style="yellow", markup=False, highlight=False)


def show_error(error: HGQError) -> None:
    """An error in its pieces, on stderr: what, where, expected, received, fix. At most one screen."""
    from rich.markup import escape

    console = _stderr()
    console.print(f"[bold red]Error:[/] {escape(error.what)}", highlight=False)
    for label, piece in (("where", error.where), ("expected", error.expected), ("received", error.received), ("fix", error.fix)):
        if piece:
            lines = piece.splitlines()
            if len(lines) > 26:
                lines = [lines[0], "    …", *lines[-24:]]
            style = "bold green" if label == "fix" else "dim"
            console.print(f"  [{style}]{label + ':':<10}[/]{escape(chr(10).join(lines))}", highlight=False, soft_wrap=True)


def show_bug(error: Exception) -> None:
    """An error nobody foresaw, on stderr."""
    console = _stderr()
    console.print(f"Error: {type(error).__name__}: {error}", style="bold red", markup=False, highlight=False)
    console.print("  This is a fault of hgqc. Please report it with the lines above and the output of `hgq doctor`.", highlight=False)


def plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if callable(tolist := getattr(value, "tolist", None)):
        return plain(tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, str | int | float | bool | None):
        return value
    return str(value)


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) if value and isinstance(value[0], str) else "×".join(map(str, value)) or "–"
    return str(value)


def _stderr():
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)
