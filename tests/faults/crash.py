"""A process whose children publish or number, and die at a point that the library doesn't know of.

`python -m tests.faults.crash <where> <org> <run> <times>` in the site's environment. The crash is `os._exit`, which is
put in here.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import django

CRASHED = 86
BEFORE_COMMIT, BEFORE_RING, INSIDE_NUMBERING, AFTER_NUMBERING = range(4)


def crash(*args: Any, **kwargs: Any) -> None:
    os._exit(CRASHED)


def publish_and_crash(where: int, slug: str, mark: str) -> None:
    from django.db import connection, transaction
    from tracker.models import Organization

    from orgrealtime import publish, stream
    from orgrealtime.delivery import bell
    from orgrealtime.stream.postgresql import PostgreSQL

    organization = Organization.objects.get(slug=slug)
    if where != BEFORE_COMMIT:
        bell.ring = crash if where == BEFORE_RING else lambda organization_id: None
    with transaction.atomic():
        publish(organization, "note", {"mark": mark, "at": time.monotonic()})
        if where == BEFORE_COMMIT:
            crash()
    if where == INSIDE_NUMBERING:
        with transaction.atomic():  # the numbers are given, and not committed
            PostgreSQL(connection).number(organization.pk, most=1000)
            crash()
    stream.advance(organization.pk)
    crash()


def main(where: str, slug: str, run: str, times: str) -> None:
    sys.path.insert(0, os.environ["EXAMPLE"])
    django.setup()
    for number in range(int(times)):
        child = os.fork()
        if not child:
            try:
                publish_and_crash(int(where), slug, f"{run}-{where}.{number}")
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != CRASHED:
            raise SystemExit("it did not crash where it should")


if __name__ == "__main__":
    main(*sys.argv[1:])
