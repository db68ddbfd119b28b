"""`hgq report`: a run directory as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgq.cli import _output


def command(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What `hgq train` or `hgq demo` wrote.", show_default=False)],
    as_json: _output.AsJson = False,
) -> None:
    """Write RUN_DIR/report.html: accuracy against EBOPs, bitwidths, resources, verification, training. Complete in itself."""
    from hgq.report import report

    path = report(run_dir)
    if as_json:
        _output.json_result({"report": path, "bytes": path.stat().st_size})
        return
    _output.result(str(path))
    _output.done(f"{path.stat().st_size:,} bytes, nothing loaded from the network")
