"""Publishes through the example's settings: reads numbers, and commits that many events each time."""

from __future__ import annotations

import sys

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.db import transaction  # noqa: E402
from tracker.models import Organization  # noqa: E402

from orgrealtime import publish  # noqa: E402

PAYLOAD = {"task_id": 123, "action": "status_changed", "details": {"from": "todo", "to": "done^"}}

organization = Organization.objects.get(slug="acme")
alice = get_user_model().objects.get(username="alice")
for line in sys.stdin:
    with transaction.atomic():
        for _ in range(int(line)):
            publish(organization, "note", PAYLOAD, actor=alice)
