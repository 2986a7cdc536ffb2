"""What this host's clients are answered: `python -m tests.bare.scenario APP…` writes it as JSON.

The arguments are apps of Django's and, if there are any, its middleware for logins is in `MIDDLEWARE`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings

LOGINS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
COOKIE = "sessionid=" + "a" * 32
PATH = "/orgs/acme/notifications/"


def start(apps: list[str]) -> None:
    settings.configure(
        SECRET_KEY="bare",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="orgrealtime.urls",
        AUTH_USER_MODEL="bare.User",
        INSTALLED_APPS=[*apps, "orgrealtime", "tests.bare"],
        MIDDLEWARE=LOGINS if apps else [],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(tempfile.mkdtemp()) / "bare"}
        },
        ORGREALTIME_ORGANIZATION_MODEL="bare.Account",
        ORGREALTIME={
            "MEMBERSHIP_MODEL": "bare.Seat",
            "MEMBERSHIP_ORGANIZATION_FIELD": "account",
            "MEMBERSHIP_USER_FIELD": "person",
            "ORGANIZATION_SLUG_FIELD": "name",
        },
    )
    django.setup()


def prepare() -> Any:
    from django.core.management import call_command

    from tests.bare.models import Account, Seat, User

    call_command("migrate", run_syncdb=True, verbosity=0)
    user = User.objects.create(name="alice")
    Seat.objects.create(account=Account.objects.create(name="acme"), person=user)
    return user


def ask() -> dict[str, Any]:
    from django.core.checks import run_checks
    from django.test import Client

    client = Client(raise_request_exception=False, headers={"cookie": COOKIE})
    warned = {message.id for message in run_checks(tags=["orgrealtime"])}
    return {
        "checks": sorted(warned & {"orgrealtime.W006", "orgrealtime.W007"}),
        "page": client.get(PATH).status_code,
        "ticket": client.post(f"{PATH}ticket/").status_code,
    }


async def connect(user: Any) -> dict[str, Any]:
    from orgrealtime.asgi import realtime
    from orgrealtime.delivery.hub import close_hub
    from orgrealtime.routing import websocket_urlpatterns
    from orgrealtime.testing.communicator import OrgCommunicator, browser_headers

    application: Any = realtime(websocket_urlpatterns)
    nobody = OrgCommunicator(application, f"/ws{PATH}", browser_headers(COOKIE))
    somebody = OrgCommunicator(application, f"/ws{PATH}", browser_headers(COOKIE))
    somebody.scope["user"] = user
    answers = {"socket": await nobody.connect(), "socket of a token": await somebody.connect()}
    await somebody.disconnect()
    await close_hub()
    return answers


if __name__ == "__main__":
    start(sys.argv[1:])
    alice = prepare()
    sys.stdout.write(json.dumps(ask() | asyncio.run(connect(alice))))
