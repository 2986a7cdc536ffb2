"""A message that is sent again from another process: one message, whatever happened to the first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import EXAMPLE, Site
from tests.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.slow

SEND = """
import json, os, signal, sys
import django
django.setup()
from django.contrib.auth.models import User
from orgrealtime.chat import services
from orgrealtime.chat.models import Room
from tracker.models import Organization

key, text, *rest = sys.argv[1:]
organization = Organization.objects.get(slug="acme")
room = Room.objects.get(organization=organization, slug="general")
alice = User.objects.get(username="alice")
print("ready", flush=True)
sys.stdin.readline()
try:
    sent = services.send(organization, alice, room_id=room.pk, body=text, client_message_id=key)
except services.ChatError as error:
    print(json.dumps({"code": error.code}), flush=True)
else:
    if rest == ["killed"]:  # after COMMIT, before the answer
        os.kill(os.getpid(), signal.SIGKILL)
    print(json.dumps({"id": sent.message.pk, "duplicate": sent.duplicate}), flush=True)
"""
COUNT = """
from orgrealtime.chat.models import Message
from orgrealtime.models import NotificationEvent
told = NotificationEvent.objects.filter(type="chat.message", payload__client_message_id={key!r})
print(Message.objects.filter(client_message_id={key!r}).count(), told.count())
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(environ={"REDIS_URL": ""})
    yield site
    site.close()


def processes(site: Site, *arguments: tuple[str, ...]) -> list[subprocess.Popen[str]]:
    """Processes that send the same moment, each with its own arguments."""
    environ = {
        **site.environ,
        "PYTHONPATH": os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")]),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SEND, *each],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=EXAMPLE,
            env=environ,
        )
        for each in arguments
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return started


def answers(started: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """What the processes were answered; `{}` for one that was killed before."""
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=LIMIT_SECONDS)[0] for process in started]
    return [json.loads(output or "{}") for output in outputs]


def stored(site: Site, key: str) -> str:
    return str(site.shell.run(COUNT.format(key=key))).strip()


def test_retries_of_several_processes_at_once_are_one_message(site: Site) -> None:
    found = answers(processes(site, *[("several", "hello")] * 4))
    assert len({each["id"] for each in found}) == 1
    assert sorted(each["duplicate"] for each in found) == [False, True, True, True]
    assert stored(site, "several") == "1 1"


def test_another_text_of_another_process_under_the_same_id_is_a_conflict(site: Site) -> None:
    found = answers(processes(site, ("texts", "one"), ("texts", "two")))
    assert sorted(each.get("code", "sent") for each in found) == ["conflict", "sent"]
    assert stored(site, "texts") == "1 1"


def test_process_that_is_killed_before_it_answers_has_sent_the_message(site: Site) -> None:
    (killed,) = processes(site, ("killed", "hello", "killed"))
    assert answers([killed]) == [{}]
    assert killed.returncode == -signal.SIGKILL
    (answer,) = answers(processes(site, ("killed", "hello")))
    assert answer["duplicate"]
    assert stored(site, "killed") == "1 1"
