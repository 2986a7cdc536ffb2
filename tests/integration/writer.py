"""A process that carries out transactions as planned, some of which it doesn't survive.

`python -m tests.integration.writer <file>`: the file holds a list of transactions as JSON. It writes a line when it is
ready, and begins when it gets one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TypedDict

import django
from django.db import connection, transaction

COMMIT, ROLL_BACK, DIE_INSIDE, DIE_BEFORE_RINGING = "commit", "roll back", "die inside", "die before ringing"


class Transaction(TypedDict):
    """Events to publish, each with the organisation's key, how long to stay open, and how it ends."""

    events: list[tuple[int, str]]
    seconds: float
    ending: str


class RollBack(Exception):
    """Ends a transaction that has to be rolled back."""


def carry_out(planned: Transaction) -> None:
    from orgrealtime import publish
    from orgrealtime.delivery import bell
    from tests.host.models import Organization

    if planned["ending"] == DIE_BEFORE_RINGING:
        bell.add_listener(Death())
    with contextlib.suppress(RollBack), transaction.atomic():
        for organization_id, mark in planned["events"]:
            publish(Organization(pk=organization_id), "note", {"mark": mark})
            time.sleep(planned["seconds"])
        if planned["ending"] == DIE_INSIDE:
            die()
        if planned["ending"] == ROLL_BACK:
            raise RollBack


class Death:
    """A listener, which is told after the commit and before any ring is sent."""

    def hear(self, hint: object) -> None:
        die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(plan: Path) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    transactions: list[Transaction] = json.loads(plan.read_text())
    connection.ensure_connection()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for planned in transactions:
        carry_out(planned)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
