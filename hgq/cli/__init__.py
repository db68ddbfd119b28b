"""The command line: `main` is what ``hgq`` runs. One file for each verb; see `hgq.cli.app`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from hgq.cli.app import run

    run()
