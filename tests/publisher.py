"""A process beside the site that publishes what it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Self

from tests.servers import Site

SCRIPT = """
import json, sys
import django
django.setup()
from django.apps import apps
from django.conf import settings
from orgrealtime import publish
Organization = apps.get_model(settings.ORGREALTIME_ORGANIZATION_MODEL)
orgs = {org.slug: org for org in Organization.objects.all()}
for line in sys.stdin:
    slug, kind, payload = json.loads(line)
    print(publish(orgs[slug], kind, payload).pk, flush=True)
"""


class Publisher:
    """Publishes in autocommit, one event after the other."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            **self._site.popen_options,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()

    def publish(self, payload: dict[str, Any], *, org: str = "acme", kind: str = "note") -> int:
        """Publish one event; return its id once its transaction has committed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([org, kind, payload]) + "\n")
        return int(self._process.stdout.readline())
