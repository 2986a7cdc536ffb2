"""Somebody beside the site's workers who looks at a stream, in the site's environment.

`python -m tests.faults.look` prints a line when it is ready to look, and reads a list in JSON, of `[how, org, session,
cursor]` or `["job", org, mark]`. Prints what each of them got, as a list in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import django

HOST = "127.0.0.1"


def a_job(slug: str, mark: str) -> str:
    """Publishes, and looks how far the stream is."""
    from tracker.models import Organization

    from orgrealtime import publish, stream

    organization = Organization.objects.get(slug=slug)
    publish(organization, "note", {"mark": mark})
    return stream.position(organization).epoch


def a_page(slug: str, session: str, cursor: str) -> int:
    """Asks for what comes after a cursor; returns the status."""
    from django.test import Client

    browser = Client(headers={"host": HOST})
    browser.cookies["sessionid"] = session
    return browser.get(f"/orgs/{slug}/notifications/?since={cursor}").status_code


def a_client(slug: str, session: str, cursor: str) -> list[str]:
    """Comes back, to another worker; returns the types of the frames it gets."""
    return asyncio.run(_come_back(slug, session, cursor))


async def _come_back(slug: str, session: str, cursor: str) -> list[str]:
    from orgrealtime.testing.communicator import OrgCommunicator
    from tests.faults.asgi import application

    headers = {"host": HOST, "origin": f"http://{HOST}", "cookie": f"sessionid={session}"}
    socket = OrgCommunicator(
        application,
        f"/ws/orgs/{slug}/notifications/?since={cursor}",
        [(name.encode(), value.encode()) for name, value in headers.items()],
    )
    is_accepted, code = await socket.connect()
    assert is_accepted, code
    await socket.synced()
    await socket.disconnect()
    return [frame["type"] for frame in socket.frames]


def main() -> None:
    sys.path.insert(0, os.environ["EXAMPLE"])
    django.setup()
    ways: dict[str, Any] = {"job": a_job, "page": a_page, "client": a_client}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    looks = json.loads(sys.stdin.read())
    sys.stdout.write(json.dumps([ways[how](*arguments) for how, *arguments in looks]))


if __name__ == "__main__":
    main()
