"""`hgq diff`: in what two frozen models differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _output


def command(
    a: Annotated[Path, typer.Argument(metavar="A.hgq", help="A frozen model.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B.hgq", help="Another one.", show_default=False)],
    as_json: _output.AsJson = False,
) -> None:
    """Show in what two frozen models differ. Exit code 1 if they do."""
    from hgq.ir import file, show

    first, second = file.load(a), file.load(b)
    rows = show.diff(first, second)
    equal = first.digest() == second.digest() and not rows
    if as_json:
        _output.json_result({"equal": equal, "digests": [first.digest(), second.digest()], "differences": rows})
    elif equal:
        _output.result(f"equal: {first.digest()[:16]}")
    elif rows:
        _output.table(rows)
    else:
        _output.result(f"the same nodes, but other digests: {first.digest()[:16]} and {second.digest()[:16]}")
    raise typer.Exit(0 if equal else 1)
