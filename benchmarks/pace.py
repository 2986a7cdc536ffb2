"""How publishers are told what to publish: lines on standard input, each answered with `done`.

`burst COUNT`: so many events in one transaction, or at once where there is none. `rate PER-SECOND SECONDS`: one by one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

Publish = Callable[[list[dict[str, Any]]], None]


def event(number: int) -> dict[str, Any]:
    """A payload, with the mark by which clients recognise and time it."""
    return {
        "number": number,
        "task_id": 123,
        "action": "status_changed",
        "details": {"from": "todo", "to": "done"},
        "^": time.monotonic_ns(),
    }


def serve(publish: Publish) -> None:
    """Publish as told, until the input ends."""
    number = 0
    for line in sys.stdin:
        match line.split():
            case ["burst", count]:
                publish([event(number + each) for each in range(int(count))])
                number += int(count)
            case ["rate", per_second, seconds]:
                begun, most = time.monotonic(), round(float(per_second) * float(seconds))
                for each in range(most):
                    time.sleep(max(0.0, begun + each / float(per_second) - time.monotonic()))
                    publish([event(number + each)])
                number += most
        print("done", flush=True)
