"""The example's pages: what they say of themselves to browsers, and whom one click signs in."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients import log_in
from tests.integration import raw
from tests.servers import EXAMPLE, Site
from tests.waiting import LIMIT_SECONDS


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(scope="module")
def closed_site() -> Iterator[Site]:
    """As others get to see it, without DEBUG."""
    with Site(environ={"DEBUG": "off"}) as site:
        yield site


async def click(site: Site, username: str, **fields: str) -> httpx.Response:
    """Press the button of a demo user on the login page."""
    async with httpx.AsyncClient(base_url=site.url, timeout=LIMIT_SECONDS) as http:
        await http.get("/accounts/login/")
        headers = {"Origin": site.url, "X-CSRFToken": http.cookies["csrftoken"]}
        return await http.post("/accounts/demo/", data={"username": username, **fields}, headers=headers)


def is_logged_in(answer: httpx.Response) -> bool:
    return answer.status_code == 302 and "sessionid" in answer.cookies


@pytest.mark.parametrize("path", ["/accounts/login/", "/orgs/acme/", "/orgs/globex/", "/nowhere/"])
async def test_page_allows_nothing_inline_or_from_elsewhere(site: Site, path: str) -> None:
    async with log_in(site, "alice") as alice:
        answer = await alice.http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


async def test_one_click_signs_a_demo_user_in(site: Site) -> None:
    answer = await click(site, "dave", next="/orgs/globex/")
    assert is_logged_in(answer)
    assert answer.headers["location"] == "/orgs/globex/"


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
async def test_click_leads_nowhere_else(site: Site, place: str) -> None:
    assert (await click(site, "dave", next=place)).headers["location"] == "/"


async def test_click_needs_debug(closed_site: Site) -> None:
    assert (await click(closed_site, "alice")).status_code == 404
    async with httpx.AsyncClient(base_url=closed_site.url, timeout=LIMIT_SECONDS) as http:
        assert "Try it as" not in (await http.get("/accounts/login/")).text


async def test_click_needs_a_post_with_a_csrf_token(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.url, timeout=LIMIT_SECONDS) as http:
        assert (await http.get("/accounts/demo/")).status_code == 405
        answer = await http.post("/accounts/demo/", data={"username": "alice"}, headers={"Origin": site.url})
    assert answer.status_code == 403


async def test_click_signs_nobody_else_in(site: Site) -> None:
    program = (
        "from django.contrib.auth.models import User; "
        "User.objects.create_superuser('root', password='demo'); "
        "bob = User.objects.get(username='bob'); bob.set_password('his own'); bob.save()"
    )
    await asyncio.to_thread(site.shell.run, program)
    answers: list[Any] = [await click(site, username) for username in ("root", "bob", "", "nobody")]
    assert [answer.status_code for answer in answers] == [404] * 4


async def test_failing_export_cannot_be_asked_for_without_debug(closed_site: Site) -> None:
    async with log_in(closed_site, "alice") as alice:
        page = (await alice.http.get("/orgs/acme/")).text
    assert "Export tasks" in page
    assert "See one fail" not in page


# ------------------------------------------------------------------------------------------- DEBUG and other computers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.5"},
        {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"},
        {"Forwarded": "for=203.0.113.5"},
        {"X-Real-IP": "203.0.113.5"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_debug_is_for_this_computer_alone(
    site: Site, closed_site: Site, headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(timeout=LIMIT_SECONDS, headers=headers) as http:
        for path in ("/accounts/login/", "/nowhere/", "/admin/"):
            answer = await http.get(site.url + path)
            assert (answer.status_code, answer.headers["content-type"][:10]) == (403, "text/plain")
        assert (await http.get(closed_site.url + "/accounts/login/")).status_code == 200


async def test_debug_answers_no_other_address(site: Site) -> None:
    program = """
from django.test import Client
client = Client(headers={"host": "127.0.0.1"})
ask = lambda address: client.get("/accounts/login/", REMOTE_ADDR=address).status_code
print(*map(ask, ("127.0.0.1", "::1", "192.168.1.5", "2001:db8::1", "")))
"""
    assert (await asyncio.to_thread(site.shell.run, program)).split() == ["200", "200", "403", "403", "403"]


# One process is forked for each case once the libraries are imported.
DEBUG_OF_CASES = """
import json, os, sys
import celery, channels, django.db.models, django.template, django.views.generic, psycopg, psycopg_pool
for hosts, flag in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.environ.update(ALLOWED_HOSTS=hosts, DEBUG=flag)
        os.dup2(1, 2)
        from django.conf import settings
        print(json.dumps([hosts, flag]), settings.DEBUG, flush=True)
        django.setup()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_debug_is_off_by_default_where_others_are_expected() -> None:
    is_on = {
        ("", ""): True,
        ("localhost,127.0.0.1,[::1]", ""): True,
        ("demo.example.com", ""): False,
        ("127.0.0.1,.example.com", ""): False,
        ("*", ""): False,
        ("demo.example.com", "on"): True,
        ("", "off"): False,
    }
    done = subprocess.run(
        [sys.executable, "-c", DEBUG_OF_CASES],
        cwd=EXAMPLE,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"},
        input=json.dumps(list(is_on)),
        capture_output=True,
        text=True,
        check=True,
    )
    said = re.split(r"^(\[.*\]) (True|False)$", done.stdout, flags=re.MULTILINE)[1:]
    cases = [tuple(json.loads(case)) for case in said[::3]]
    assert dict(zip(cases, said[1::3], strict=True)) == {case: str(on) for case, on in is_on.items()}
    for (_, flag), logged in zip(cases, said[2::3], strict=True):
        assert ("only this computer is answered" in logged) == (flag == "on")


# ---------------------------------------------------------------------------------------------------- files and caches


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/manage.py", "..%2f..%2fmanage.py", "%00", "tracker/../../x"])
async def test_what_isnt_a_static_file_is_not_found(closed_site: Site, path: str) -> None:
    reader, writer = await raw.connect(closed_site.url)
    writer.write(f"GET /static/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"404"
    writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/orgs/acme/",
        "/orgs/acme/tasks/",
        "/orgs/acme/exports/",
        "/orgs/globex/",
        "/orgs/acme/notifications/",
    ],
)
async def test_page_with_data_is_kept_by_no_cache(site: Site, path: str) -> None:
    async with log_in(site, "alice") as alice:
        assert "no-store" in (await alice.http.get(path)).headers["cache-control"]
