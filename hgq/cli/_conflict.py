"""Another distribution that installs an import package called `hgq`: HGQ2 (PyPI ``hgq2``) does, and its files and ours would mix."""

from __future__ import annotations

import sys
from importlib import metadata

FOREIGN = ("hgq2", "hgq")
"""Distributions known to do so. `hgq doctor` looks at all others too, which takes longer."""


def owners(names: tuple[str, ...] = FOREIGN) -> list[str]:
    """Those of `names` that are installed and own files under ``hgq/``, with their versions."""
    found = []
    for name in names:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if any(file.parts[:1] == ("hgq",) for file in distribution.files or ()):
            found.append(f"{name} {distribution.version}")
    return found


def all_owners() -> list[str]:
    """Every installed distribution but ours that owns the import name `hgq`."""
    names = metadata.packages_distributions().get("hgq", [])
    return owners(tuple(sorted({*FOREIGN, *names} - {"hgqc"})))


def advice(foreign: list[str]) -> str:
    """What to do about them."""
    names = " ".join(name.split()[0] for name in foreign)
    return (
        f"{' and '.join(foreign)} installs an import package called `hgq` too, and so overwrites parts of hgqc. "
        f"Keep one of them in each virtual environment. To keep hgqc in this one: "
        f"pip uninstall -y {names} hgqc && pip install hgqc"
    )


def warn() -> None:
    """Say so on stderr if there is such a distribution."""
    if foreign := owners():
        sys.stderr.write(f"! {advice(foreign)}\n")
