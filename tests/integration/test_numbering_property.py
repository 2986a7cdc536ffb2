"""Whatever writers do, every reader who follows by cursor gets what was committed: all of it, once, in one order."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError, connection

from orgrealtime import publish, stream
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.cursors import Cursor
from tests import servers
from tests.conftest import MakeOrg
from tests.host.models import Organization
from tests.integration.writer import COMMIT, DIE_BEFORE_RINGING, DIE_INSIDE, ROLL_BACK, Transaction
from tests.threads import Work, open_transaction, start
from tests.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parent.parent.parent
WRITERS = 6
TRANSACTIONS = 12
READERS = 3

Log = list[tuple[int, str]]  # number and mark of each event, in the order in which a reader got them
Logs = dict[int, Log]  # by the key of the organisation


class Plan(NamedTuple):
    writers: list[list[Transaction]]
    committed: dict[int, set[str]]  # the marks that must arrive, by the key of the organisation


def make_plan(seed: int, organizations: list[int]) -> Plan:
    """Transactions for each writer. One in six writers dies inside its last, two in six between commit and ring."""
    chance = random.Random(seed)
    writers: list[list[Transaction]] = []
    committed: dict[int, set[str]] = {pk: set() for pk in organizations}
    for writer in range(WRITERS):
        transactions = []
        last = [DIE_INSIDE, DIE_BEFORE_RINGING, DIE_BEFORE_RINGING, COMMIT, ROLL_BACK, COMMIT][writer % 6]
        for number in range(TRANSACTIONS):
            marks = [f"{writer}-{number}-{event}" for event in range(chance.randint(1, 3))]
            events = [(chance.choice(organizations), mark) for mark in marks]
            ending = chance.choice([COMMIT, COMMIT, ROLL_BACK]) if number < TRANSACTIONS - 1 else last
            seconds = chance.choice([0, 0, chance.uniform(0, 0.05)])
            transactions.append(Transaction(events=events, seconds=seconds, ending=ending))
            if ending in {COMMIT, DIE_BEFORE_RINGING}:
                for pk, mark in events:
                    committed[pk].add(mark)
        writers.append(transactions)
    return Plan(writers, committed)


class Writers:
    """A process for each writer of a plan, ready to begin."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        url = urlsplit(servers.database_url())._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
        self.environ = {**os.environ, "DATABASE_URL": url}
        self.processes = [self._start(folder / str(number), part) for number, part in enumerate(plan.writers)]
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def _start(self, file: Path, transactions: list[Transaction]) -> subprocess.Popen[str]:
        file.write_text(json.dumps(transactions))
        command = [sys.executable, "-m", "tests.integration.writer", str(file)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=self.environ, stdin=pipe, stdout=pipe, text=True)

    def write(self) -> None:
        """Carry out the plan, all writers at once, and see that each ended as planned."""
        endings = [
            self._run(process, part) for process, part in zip(self.processes, self.plan.writers, strict=True)
        ]
        for ending in endings:
            ending.result()

    def _run(self, process: subprocess.Popen[str], transactions: list[Transaction]) -> Work[None]:
        dies = transactions[-1]["ending"] in {DIE_INSIDE, DIE_BEFORE_RINGING}

        def run() -> None:
            process.communicate("begin\n", LIMIT_SECONDS)
            assert process.returncode == (-signal.SIGKILL if dies else 0)

        return start(run)


def follow(starts: dict[int, Cursor], writing_is_over: threading.Event, seed: int) -> Logs:
    """Read all organisations by cursor, in pages of any size, until nothing can come any more."""
    chance = random.Random(seed)
    cursors, logs = dict(starts), defaultdict[int, Log](list)
    while True:
        is_last_round, more = writing_is_over.is_set(), False
        for pk, cursor in cursors.items():
            page = stream.read(pk, cursor, limit=chance.randint(1, 9))
            logs[pk] += [(event.seq, json.loads(event.text)["mark"]) for event in page.events]
            cursors[pk] = Cursor.parse(page.cursor)
            more |= page.has_more
        if is_last_round and not more:
            return logs


def follow_together(starts: dict[int, Cursor], writing_is_over: threading.Event, _seed: int) -> Logs:
    """The same as hubs do it: all by one statement, and those that it leaves out one by one."""
    cursors, logs = dict(starts), defaultdict[int, Log](list)
    while True:
        is_last_round, more = writing_is_over.is_set(), False
        found = stream.follow(cursors)
        for pk in cursors.keys() - found.keys():
            with contextlib.suppress(OperationalError):
                found[pk] = stream.follow_one(pk, cursors[pk])
        for pk, page in found.items():
            assert isinstance(page, stream.Page)
            logs[pk] += [(event.seq, json.loads(event.text)["mark"]) for event in page.events]
            cursors[pk] = Cursor.parse(page.cursor)
            more |= page.has_more
        if is_last_round and not more and len(found) == len(cursors):
            return logs


def assert_complete(log: Log, committed: set[str]) -> None:
    """What every reader of an organisation must be able to rely on."""
    marks = [mark for _, mark in log]
    assert sorted(marks) == sorted(committed), "not exactly the committed events"
    assert [seq for seq, _ in log] == list(range(1, len(log) + 1)), "not in the order of dense numbers"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_reader_gets_exactly_what_was_committed(seed: int, make_org: MakeOrg, tmp_path: Path) -> None:
    organizations = [make_org(f"org-{number}") for number in range(3)]
    plan = make_plan(seed, [organization.pk for organization in organizations])
    starts = {each.pk: Cursor.parse(stream.position(each).cursor) for each in organizations}
    writers, over = Writers(plan, tmp_path), threading.Event()
    readers = [start(follow, starts, over, seed + number) for number in range(READERS)]
    readers += [start(follow_together, starts, over, seed + number) for number in range(READERS)]
    try:
        writers.write()
    finally:
        over.set()
    logs = [reader.result() for reader in readers]
    for pk, committed in plan.committed.items():
        stored = NotificationEvent.objects.filter(organization=pk).values_list("payload__mark", flat=True)
        assert set(stored) == committed
        assert_complete(logs[0][pk], committed)
        assert all(log[pk] == logs[0][pk] for log in logs)


class ReaderById:
    """Follows by `id > last_id`, which is how it is often done."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.last_id = 0
        self.log: Log = []

    def read(self) -> None:
        events = NotificationEvent.objects.filter(organization=self.organization, id__gt=self.last_id)
        for event in events.order_by("id"):
            self.last_id = event.pk
            self.log.append((len(self.log) + 1, event.payload["mark"]))


class ReaderByCursor:
    """Follows by cursor, as everything here does."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.cursor = Cursor.parse(stream.position(organization).cursor)
        self.log: Log = []

    def read(self) -> None:
        page = stream.read(self.organization.pk, self.cursor)
        self.cursor = Cursor.parse(page.cursor)
        self.log += [(event.seq, json.loads(event.text)["mark"]) for event in page.events]


def read_while_a_lower_id_commits_later(
    reader: ReaderById | ReaderByCursor, organization: Organization
) -> None:
    with open_transaction(lambda: publish(organization, "note", {"mark": "slow"})):
        publish(organization, "note", {"mark": "fast"})
        reader.read()
    reader.read()


def test_reader_by_id_loses_what_commits_later_with_a_lower_id(acme: Organization) -> None:
    reader = ReaderById(acme)
    read_while_a_lower_id_commits_later(reader, acme)
    with pytest.raises(AssertionError, match="not exactly the committed events"):
        assert_complete(reader.log, {"fast", "slow"})
    assert reader.log == [(1, "fast")]


def test_reader_by_cursor_gets_what_commits_later_with_a_lower_id(acme: Organization) -> None:
    reader = ReaderByCursor(acme)
    read_while_a_lower_id_commits_later(reader, acme)
    assert_complete(reader.log, {"fast", "slow"})
