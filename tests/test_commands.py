"""The management commands: what they do, print and refuse."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from orgrealtime import publish, stream
from orgrealtime.models import NotificationEvent, Stream
from tests.host.models import Organization

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    """Run a command as from the shell; return what it prints and what it prints to stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


# orgrealtime_publish


def test_publish_prints_the_id_of_the_event_and_nothing_else(acme: Organization) -> None:
    out, err = run("orgrealtime_publish", "acme", "task_event", '{"task_id": 1, "tags": ["é", null]}')
    event = NotificationEvent.objects.get()
    assert (out, err) == (f"{event.pk}\n", "")
    assert (event.organization, event.type, event.payload, event.audience) == (
        acme,
        "task_event",
        {"task_id": 1, "tags": ["é", None]},
        None,
    )


def test_publish_names_recipients_by_username(acme: Organization, alice: User, bob: User) -> None:
    run("orgrealtime_publish", "acme", "note", "{}", "--to", "alice", "bob")
    assert set(NotificationEvent.objects.get().audience or ()) == {alice.pk, bob.pk}


def test_publish_prints_the_first_id_for_a_repeated_key(acme: Organization) -> None:
    first = run("orgrealtime_publish", "acme", "note", "{}", "--dedupe-key", "k")
    second = run("orgrealtime_publish", "acme", "other", "{}", "--dedupe-key", "k")
    assert first == second
    assert NotificationEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["initech", "note", "{}"], "no organisation with the slug 'initech'"),
        (["acme", "note", "{'a': 1}"], "isn't JSON"),
        (["acme", "note", ""], "isn't JSON"),
        (["acme", "note", "[" * 100_000], "isn't JSON"),
        (["acme", "note", '{"n": ' + "9" * 5000 + "}"], "."),
        (["acme", "note", "[1]"], "not list"),
        (["acme", "note", "null"], "not NoneType"),
        (["acme", "note", '{"n": NaN}'], r"\$\.n is nan"),
        (["acme", "note", '{"n": 9007199254740992}'], r"\$\.n is an integer beyond"),
        (["acme", "note", '{"s": "\\u0000"}'], "NUL"),
        (["acme", "note", '{"s": "\\ud800"}'], "surrogate"),
        (["acme", "note", '{"cursor": 1}'], "'cursor' is reserved"),
        (["acme", "note", json.dumps({"s": "x" * 70_000})], "at most 65536"),
        (["acme", "reset", "{}"], "'reset' is a frame"),
        (["acme", "a b", "{}"], "'a b' can't be an event type"),
        (["acme", "note", "{}", "--to", "alice", "zoe", "yan"], "no user yan, zoe"),
        (["acme", "note", "{}", "--dedupe-key", ""], "dedupe_key"),
        (["acme", "note"], "required"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.usefixtures("acme", "alice")
def test_publish_refuses_what_is_wrong_and_says_what(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("orgrealtime_publish", *arguments)
    assert not NotificationEvent.objects.exists()


# orgrealtime_prune


@pytest.fixture
def publish_aged(acme: Organization) -> Callable[..., None]:
    """`publish_aged(30, 20, 0)`: numbered events, so many days old."""

    def publish_all(*days: int, organization: Organization = acme) -> None:
        for count in days:
            event = publish(organization, "note", {})
            created_at = timezone.now() - datetime.timedelta(days=count)
            NotificationEvent.objects.filter(pk=event.pk).update(created_at=created_at)
        stream.advance(organization.pk)

    return publish_all


def left(organization: Organization) -> list[int | None]:
    events = NotificationEvent.objects.filter(organization=organization).order_by("seq")
    return list(events.values_list("seq", flat=True))


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--days", "15"], [3, 4, 5]),
        (["--days", "0.5"], [5]),
        (["--days", "0"], []),
        (["--days", "365"], [1, 2, 3, 4, 5]),
        (["--keep", "2"], [4, 5]),
        (["--keep", "0"], []),
        (["--keep", "9"], [1, 2, 3, 4, 5]),
        (["--days", "25", "--keep", "2"], [4, 5]),
        (["--days", "5", "--keep", "4"], [4, 5]),
    ],
)
def test_prune_deletes_what_is_too_old_or_too_much(
    acme: Organization, publish_aged: Callable[..., None], arguments: list[str], kept: list[int]
) -> None:
    publish_aged(30, 20, 10, 1, 0)
    out, _ = run("orgrealtime_prune", *arguments)
    assert (left(acme), out) == (kept, f"{5 - len(kept)} events deleted\n")


def test_prune_goes_through_all_organisations(
    acme: Organization, globex: Organization, publish_aged: Callable[..., None]
) -> None:
    publish_aged(0, 0, 0)
    publish_aged(0, 0, organization=globex)
    out, _ = run("orgrealtime_prune", "--keep", "1")
    assert (left(acme), left(globex), out) == ([3], [2], "3 events deleted\n")


def test_prune_leaves_other_organisations_than_the_one_named_alone(
    acme: Organization, globex: Organization, publish_aged: Callable[..., None]
) -> None:
    publish_aged(0, 0)
    publish_aged(0, 0, organization=globex)
    run("orgrealtime_prune", "--keep", "0", "--org", "globex")
    assert (left(acme), left(globex)) == ([1, 2], [])


def test_prune_shows_its_progress_batch_by_batch(
    acme: Organization, publish_aged: Callable[..., None]
) -> None:
    publish_aged(0, 0, 0, 0, 0)
    _, err = run("orgrealtime_prune", "--keep", "0", "--batch", "2")
    lines = err.strip().split("\r")
    assert [line.strip() for line in lines if line] == [
        f"{acme.pk}: {count} events deleted" for count in (2, 4, 5)
    ]


def test_prune_that_finds_nothing_is_quiet(publish_aged: Callable[..., None]) -> None:
    publish_aged(0)
    assert run("orgrealtime_prune", "--days", "1") == ("0 events deleted\n", "")


FUTURE = -365


@pytest.mark.parametrize(
    ("ages", "kept", "words"),
    [
        (
            [40, 40, 40, FUTURE, *[40] * 6],
            [],
            "1 events dated in the future are taken to be as old as those after",
        ),
        ([FUTURE, 40, 40, 1], [4], "1 events dated in the future are taken to be as old as those after them"),
        ([40, 40, FUTURE, 1, 0], [3, 4, 5], ""),
        ([40, 40, FUTURE], [3], ""),
        (
            [40, 1, 40, 40],
            [2, 3, 4],
            "2 events or more are kept though they are old enough, because event 2 before",
        ),
    ],
)
def test_prune_goes_on_where_dates_are_out_of_order_and_says_what_it_keeps(
    acme: Organization, publish_aged: Callable[..., None], ages: list[int], kept: list[int], words: str
) -> None:
    publish_aged(*ages)
    out, _ = run("orgrealtime_prune", "--days", "30")
    *said, total = out.splitlines()
    assert (left(acme), total) == (kept, f"{len(ages) - len(kept)} events deleted")
    assert (words in out, bool(said)) == (True, bool(words))


@pytest.mark.parametrize("moment", ["infinity", "12026-01-01"])
def test_prune_stands_dates_that_python_does_not_know(
    acme: Organization, publish_aged: Callable[..., None], moment: str
) -> None:
    publish_aged(40, 40, 40, 1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orgrealtime_notificationevent SET created_at = %s WHERE seq = 2", [moment])
    run("orgrealtime_prune", "--days", "30")
    assert left(acme) == [4]


def test_dry_run_counts_and_changes_nothing(acme: Organization, publish_aged: Callable[..., None]) -> None:
    publish_aged(30, 20, 0)
    out, err = run("orgrealtime_prune", "--days", "15", "--dry-run")
    assert (out, err) == (f"{acme.pk}: 2 events would be deleted\n", "")
    assert (left(acme), Stream.objects.get().floor) == ([1, 2, 3], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--days, --keep or both"),
        (["--org", "acme"], "--days, --keep or both"),
        (["--days", "-1"], "at least 0"),
        (["--keep", "-1"], "at least 0"),
        (["--days", "nan"], "--days"),
        (["--days", "inf"], "--days"),
        (["--days", "1e9"], "--days"),
        (["--days", "many"], "--days"),
        (["--keep", "1.5"], "--keep"),
        (["--keep", "1", "--batch", "0"], "--batch"),
        (["--keep", "1", "--org", "initech"], "no organisation with the slug 'initech'"),
    ],
)
def test_prune_refuses_wrong_arguments_and_says_which(
    acme: Organization, publish_aged: Callable[..., None], arguments: list[str], message: Any
) -> None:
    publish_aged(30)
    with pytest.raises(CommandError, match=message):
        run("orgrealtime_prune", *arguments)
    assert left(acme) == [1]
