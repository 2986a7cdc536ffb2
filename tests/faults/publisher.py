"""A process that publishes at a steady rate and says of each event what became of it.

`python -m tests.faults.publisher <run> <seed> <per second>` in the site's environment: a line of JSON for each event
until its input ends. One event in five is for three members only, and one in five of a type that guests don't see. An
error is reported, and publishing goes on.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time

import django


def main(run: str, seed: int, rate: float) -> None:
    sys.path.insert(0, os.environ["EXAMPLE"])
    django.setup()
    from django.db import Error, close_old_connections
    from tracker.models import Membership, Organization

    from orgrealtime import publish

    organizations = list(Organization.objects.filter(slug__startswith="org-").order_by("slug"))
    members: dict[int, list[tuple[int, str]]] = {}
    for row in Membership.objects.values_list("organization_id", "user_id", "user__username"):
        members.setdefault(row[0], []).append(row[1:])
    close_old_connections()
    chance = random.Random(seed)
    number, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + 1 / rate, time.monotonic() - 1)  # after a stall it doesn't make up for all of it
        number += 1
        organization = chance.choice(organizations)
        to = chance.sample(members[organization.pk], 3) if chance.random() < 0.2 else None
        report = {
            "mark": f"{run}-{number}",
            "org": organization.slug,
            "type": "secret" if chance.random() < 0.2 else "note",
            "to": None if to is None else [name for _, name in to],
        }
        report["begun"] = begin = time.monotonic()
        payload = {"mark": report["mark"], "at": begin}
        try:
            publish(organization, report["type"], payload, to=to and [pk for pk, _ in to])
        except Error as error:
            report["error"] = repr(error)
        report["ms"] = (time.monotonic() - begin) * 1000
        close_old_connections()
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
