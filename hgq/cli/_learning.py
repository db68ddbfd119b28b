"""`hgq estimate --learn`, ``--learned`` and ``--forget``: the user's own reports."""

from __future__ import annotations

from pathlib import Path

from hgq.cli import _output


def run(learn: Path | None, forget: str | None, as_json: bool) -> None:
    """Forget, learn, and list what is known then."""
    from hgq.estimate import device_of
    from hgq.estimate.learning import Store, collect
    from hgq.estimate.learning.store import as_rows

    store, skipped = Store(), []
    gone = store.forget(None if forget == "all" else device_of(forget).die) if forget is not None else None
    new = None
    if learn is not None:
        found = collect(learn)
        new, skipped = len(found.observations), found.skipped
        if found.observations:
            store.add(found.observations)
    rows = store.observations()
    if as_json:
        content = {"file": str(store.path), "learned": new, "forgotten": gone, "skipped": skipped, "observations": rows}
        _output.json_result(content)
        return
    for path, why in skipped:
        _output.warning(f"{path}: {why}")
    if gone is not None:
        _output.done(f"{gone} designs forgotten")
    if new is not None:
        _output.done(f"{new} designs learned")
    if rows:
        _output.table(as_rows(rows), f"{store.path}: measured, and how far the estimate is from it without them")
    else:
        _output.result("Nothing is learned.")
