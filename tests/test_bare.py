"""Hosts that lack what Django's logins need: what their clients are answered, and what the checks say."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.project import ROOT

CONTENT_TYPES, AUTH, SESSIONS = (f"django.contrib.{name}" for name in ("contenttypes", "auth", "sessions"))
pytestmark = pytest.mark.slow

W006, W007 = "orgrealtime.W006", "orgrealtime.W007"


def run(*apps: str) -> Any:
    """Run the scenario in a project with these apps."""
    command = [sys.executable, "-W", "error", "-m", "tests.bare.scenario", *apps]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("apps", "checks"),
    [
        ((), [W006, W007]),
        ((CONTENT_TYPES, AUTH), [W006]),
        ((CONTENT_TYPES, AUTH, SESSIONS), []),
    ],
    ids=["neither logins nor sessions", "no sessions", "all"],
)
def test_stranger_is_refused_as_ever_and_a_check_says_what_is_missing(
    apps: tuple[str, ...], checks: list[str]
) -> None:
    assert run(*apps) == {
        "checks": checks,
        "page": 401,
        "ticket": 401,
        "socket": [False, 4401],
        "socket of a token": [True, None],
    }
