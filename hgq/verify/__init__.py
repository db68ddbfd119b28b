"""Prove that all representations of a model compute the same bits: Keras ≡ golden ≡ every backend's simulation.

=================  ==========================================================================
`vectors.py`       what is fed: real samples, then corners and random full-range numbers
`compare.py`       run each representation and count the outputs that differ, no tolerance
`locate.py`        on a mismatch: the first divergent node and one minimal input
`verdict.py`       the result, for people and as JSON
=================  ==========================================================================

Keras itself stays outside: its predictions come through a `Reference`, which `hgq.reference.KerasReference` implements.
"""

from __future__ import annotations

from hgq.verify.compare import Reference, verify
from hgq.verify.vectors import corner_samples
from hgq.verify.verdict import Check, Divergence, Verdict

__all__ = ["Check", "Divergence", "Reference", "Verdict", "corner_samples", "verify"]
