"""A process beside a site that does what it is told with the site's models, without a start for each line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

SCRIPT = """
import contextlib, io, json, sys, traceback
import django
django.setup()
from django.db import close_old_connections
for line in sys.stdin:
    printed, error = io.StringIO(), None
    close_old_connections()
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), {})
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([printed.getvalue(), error]), flush=True)
"""
PUBLISH = """
import json
from django.apps import apps
from django.conf import settings
from orgrealtime import publish
organization = apps.get_model(settings.ORGREALTIME_ORGANIZATION_MODEL).objects.get(slug={org!r})
for payload in json.loads({payloads!r}):
    print(publish(organization, {kind!r}, payload).pk)
"""


class ShellError(RuntimeError):
    """A program failed; the message ends with its traceback."""


class Shell:
    """`shell.run("print(1)")` and, in autocommit, `shell.publish({...})`; one thing after the other."""

    def __init__(self, **popen_options: Any) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", SCRIPT]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **popen_options)
        self._turn = threading.Lock()

    def run(self, program: str) -> str:
        """Run a program in Python; return what it prints."""
        assert self._process.stdin
        assert self._process.stdout
        with self._turn:
            self._process.stdin.write(json.dumps(program) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise ShellError(
                f"the process has ended with {self._process.wait()} instead of running {program!r}"
            )
        printed, error = json.loads(answer)
        if error:
            raise ShellError(error)
        return str(printed)

    def publish(self, payload: dict[str, Any], *, org: str = "acme", kind: str = "note") -> int:
        """Publish one event; return its id once its transaction has committed."""
        (number,) = self.publish_each([payload], org=org, kind=kind)
        return number

    def publish_each(
        self, payloads: Sequence[dict[str, Any]], *, org: str = "acme", kind: str = "note"
    ) -> list[int]:
        """Publish many events one after the other, each in a transaction of its own; return their ids."""
        program = PUBLISH.format(org=org, kind=kind, payloads=json.dumps(payloads))
        return [int(line) for line in self.run(program).split()]

    def call(self, *command: str) -> str:
        """Run a command of manage.py with its arguments; return what it prints."""
        return self.run(f"from django.core.management import call_command; call_command(*{command!r})")

    def close(self) -> None:
        self._process.communicate()
