"""The other end of `hgq.sweep.runners.Processes`: orders come as lines of JSON on stdin, events leave as lines of JSON on stdout."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hgq.config import Recipe
from hgq.sweep.trial import Event, Trial, attempt


def main() -> int:
    """Run trials until there are no more orders."""
    # Whatever prints to stdout, a simulator say, must not fall between the events: they get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_listen, args=(orders, busy), daemon=True).start()

    def report(event: Event) -> None:
        answers.write(json.dumps(asdict(event)) + "\n")
        answers.flush()

    try:
        while (order := orders.get()) is not None:
            busy.set()
            trial = Trial(order["name"], {}, Recipe.from_text(order["recipe"], order["name"]))
            attempt(trial, Path(order["directory"]), report)
            busy.clear()
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def _listen(orders: SimpleQueue[dict[str, Any] | None], busy: threading.Event) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    if busy.is_set():  # whoever gave the order is gone: nobody waits for the trial, and its checkpoint keeps it
        os._exit(1)
    orders.put(None)


if __name__ == "__main__":
    sys.exit(main())
