"""Publishes through the example's settings: `python -m benchmarks.publisher [SLUG …]`, told by `benchmarks.pace`."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.db import transaction  # noqa: E402
from tracker.models import Organization  # noqa: E402

from benchmarks import pace  # noqa: E402
from orgrealtime import publish  # noqa: E402

slugs = sys.argv[1:] or ["acme"]
organizations = itertools.cycle([Organization.objects.get(slug=slug) for slug in slugs])
alice = get_user_model().objects.get(username="alice")


def publish_all(events: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        for event in events:
            publish(next(organizations), "note", event, actor=alice)


pace.serve(publish_all)
