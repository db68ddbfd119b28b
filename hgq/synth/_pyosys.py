"""Run a Yosys script with pyosys, in a process of its own: ``python -m hgq.synth._pyosys SCRIPT``.

A process, since Yosys ends the process when it meets an error, and so that it can be stopped.
"""

from __future__ import annotations

import sys

from pyosys import libyosys  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]


def main(script: str) -> None:
    """Run the script line by line."""
    design = libyosys.Design()
    with open(script) as lines:
        for line in lines:
            if line.strip():
                libyosys.run_pass(line.strip(), design)


if __name__ == "__main__":
    main(sys.argv[1])
