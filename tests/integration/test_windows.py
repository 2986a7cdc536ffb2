"""Where Python has fewer names, as on Windows: the site starts, delivers and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients import log_in
from tests.servers import EXAMPLE, Site

pytestmark = pytest.mark.slow  # a site of its own

WINDOWS = Path(__file__).parent / "windows.py"


class WindowsSite(Site):
    def _command(self) -> Sequence[str]:
        python, _, module, *arguments = super()._command()
        return [python, str(WINDOWS), module, *arguments, "--loop", "asyncio"]


async def test_site_delivers_streams_and_drains() -> None:
    with WindowsSite() as site:
        async with log_in(site, "alice") as alice, alice.socket() as hers:
            await hers.synced()
            await asyncio.to_thread(site.shell.publish, {"number": 1})
            await hers.until(lambda one: len(one.events) == 1)
            async with alice.http.stream("GET", "/orgs/acme/notifications/stream/?last=1") as answer:
                assert answer.status_code == 200
                lines = answer.aiter_lines()
                while '"number":1' not in await anext(lines):
                    pass
            os.kill(site.pid, signal.SIGTERM)
            assert await hers.closed() == 1012
        assert "Traceback" not in (site.folder / "log").read_text()


def test_commands_run() -> None:
    environ = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": "sqlite:///:memory:"}
    for command in ("check", "orgrealtime_prune --help"):
        done = subprocess.run(
            [sys.executable, str(WINDOWS), "django", *command.split()],
            cwd=EXAMPLE,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
