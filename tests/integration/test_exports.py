"""The example's exports: made by a real Celery worker or a thread, downloaded by members, never ending in silence."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.clients import Browser, Socket, log_in
from tests.servers import Redis, Site, Worker
from tests.stopwatch import Stopwatch
from tests.waiting import LIMIT_SECONDS

EXPORTS = "/orgs/acme/exports/"
PROMISED = 15.0  # seconds from a worker's death to the event
LONG = {"EXPORT_SECONDS": "60"}
Event = dict[str, Any]


slow = pytest.mark.slow


@pytest.fixture(scope="module", params=["SQLite", pytest.param("worker", marks=slow)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose exports are quick, in one process with SQLite or with a worker and PostgreSQL."""
    environ = {"EXPORT_SECONDS": "0.2", "REDIS_URL": ""}
    if request.param == "SQLite":
        environ["DATABASE_URL"] = f"sqlite:///{tmp_path_factory.mktemp('site')}/db.sqlite3"
    with ExitStack() as stack:
        if request.param == "worker":
            environ["REDIS_URL"] = stack.enter_context(Redis()).url
        site = stack.enter_context(Site(environ=environ))
        if request.param == "worker":
            stack.enter_context(Worker(site))
        yield site


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    """Of `mortal_site` alone: a worker takes the tasks of every site at its broker."""
    with Redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def mortal_site(broker: Redis) -> Iterator[Site]:
    """A site whose workers and whose broker may die; two web processes watch its exports."""
    with Site(workers=2, environ={"REDIS_URL": broker.url}) as site:
        yield site


@pytest.fixture
def worker(request: pytest.FixtureRequest, mortal_site: Site) -> Iterator[Worker]:
    """A worker of `mortal_site`, for which an export takes a minute unless the test says else."""
    with Worker(mortal_site, environ=getattr(request, "param", LONG)) as worker:
        yield worker
    mortal_site.shell.run("from exports.models import *; Export.objects.unfinished().delete()")


@asynccontextmanager
async def following(browser: Browser, org: str = "acme") -> AsyncIterator[Socket]:
    async with browser.socket(org) as socket:
        yield await socket.synced()


async def request_export(browser: Browser, org: str = "acme", **fields: str) -> Event:
    browser.http.headers["Accept"] = "application/json"
    answer = await browser.post(f"/orgs/{org}/exports/", **fields)
    assert answer.status_code == 202, answer.text
    job: Event = answer.json()
    return job


def of(socket: Socket, type: str, job: Event) -> list[Event]:
    return [e for e in socket.events if e["type"] == type and e["job_id"] == job["job_id"]]


async def outcome(socket: Socket, job: Event) -> Event:
    """The event that says how the export ended."""
    await socket.until(lambda one: of(one, "export_done", job), "the export has ended")
    (event,) = of(socket, "export_done", job)
    return event


async def under_way(socket: Socket, job: Event) -> None:
    await socket.until(lambda one: of(one, "export_progress", job))


async def stored(site: Site, job: Event) -> Event:
    program = (
        "import json; from exports.models import Export; "
        f"e = Export.objects.get(pk='{job['job_id']}'); "
        "print(json.dumps({'status': e.status, 'file': e.file.name, 'error': e.error}))"
    )
    printed = await asyncio.to_thread(site.shell.run, program)
    row: Event = json.loads(printed)
    return row


# What comes of it


async def test_member_gets_progress_and_then_a_file_with_the_tasks(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        event = await outcome(socket, job)
        assert event["status"] == "done"
        assert event["download_url"] == f"{EXPORTS}{job['job_id']}/download/"
        progress = [e["progress"] for e in of(socket, "export_progress", job)]
        assert progress == sorted(progress)
        assert len(progress) > 5
        assert progress[-1] == 100
        answer = await alice.http.get(event["download_url"])
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="acme-tasks-')
    assert answer.headers["cache-control"] == "private, no-store"
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert len(rows) == 1 + 6
    assert ["Renew the office insurance", "Done"] in [row[:2] for row in rows]


async def test_others_hear_of_the_file_but_not_of_the_progress(site: Site) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob:
        async with following(bob) as socket:
            job = await request_export(alice)
            assert (await outcome(socket, job))["status"] == "done"
            assert of(socket, "export_progress", job) == []
        assert (await bob.http.get(f"{EXPORTS}{job['job_id']}/download/")).status_code == 200


async def test_failing_export_says_failed_and_has_no_file(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice, fail="1")
        event = await outcome(socket, job)
        assert (event["status"], event["download_url"]) == ("failed", "")
        assert (await alice.http.get(f"{EXPORTS}{job['job_id']}/download/")).status_code == 404
    row = await stored(site, job)
    assert row["status"] == "failed"
    assert row["file"] == ""
    assert "try again" in row["error"]


async def test_second_click_gets_the_export_that_is_under_way() -> None:
    with Site(environ={"REDIS_URL": "", **LONG}) as site:
        async with log_in(site, "alice") as alice, following(alice) as socket:
            jobs = await asyncio.gather(*(request_export(alice) for _ in range(5)))
            await under_way(socket, jobs[0])  # in a thread that has PostgreSQL
    assert len({job["job_id"] for job in jobs}) == 1


async def test_click_after_the_export_gets_another(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        await outcome(socket, job)
        another = await request_export(alice)
        assert another["job_id"] != job["job_id"]
        await outcome(socket, another)


async def test_page_learns_what_it_missed(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        await outcome(socket, job)
        listed = (await alice.http.get(EXPORTS)).json()["exports"]
    assert listed[0]["job_id"] == job["job_id"]
    assert listed[0]["status"] == "done"


# Who may


async def test_stranger_gets_one_answer_for_every_organisation_and_file(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        await outcome(socket, job)
    async with log_in(site, "carol") as carol:
        carol.http.headers["Accept"] = "application/json"
        real = await carol.http.get(f"{EXPORTS}{job['job_id']}/download/")
        nowhere = await carol.http.get(f"/orgs/nowhere/exports/{job['job_id']}/download/")
        smuggled = await carol.http.get(f"/orgs/globex/exports/{job['job_id']}/download/")
        posted = await carol.post(EXPORTS)
    assert (real.status_code, nowhere.status_code, smuggled.status_code) == (403, 403, 404)
    assert real.text == nowhere.text
    assert posted.status_code == 403


async def test_anonymous_is_sent_to_the_login_and_back(site: Site) -> None:
    path = f"{EXPORTS}00000000-0000-0000-0000-000000000000/download/"
    async with httpx.AsyncClient(base_url=site.url, timeout=LIMIT_SECONDS) as anonymous:
        answer = await anonymous.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 302
    assert answer.headers["location"] == f"/accounts/login/?next={path}"


async def test_post_without_csrf_token_is_refused(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        assert (await alice.http.post(EXPORTS, headers={"Origin": site.url})).status_code == 403


async def test_unknown_job_is_not_found(site: Site) -> None:
    async with log_in(site, "alice") as alice:
        path = f"{EXPORTS}00000000-0000-0000-0000-000000000000/download/"
        assert (await alice.http.get(path)).status_code == 404


async def test_formula_in_a_title_is_text_in_the_file(site: Site) -> None:
    program = (
        "from tracker.models import *; "
        "Organization.objects.get(slug='globex').tasks.create(title='=HYPERLINK(\"http://evil\")')"
    )
    await asyncio.to_thread(site.shell.run, program)
    async with log_in(site, "carol") as carol, following(carol, "globex") as socket:
        event = await outcome(socket, await request_export(carol, "globex"))
        text = (await carol.http.get(event["download_url"])).text
    assert "\n\"'=HYPERLINK" in text or "\n'=HYPERLINK" in text


@pytest.mark.slow
async def test_files_are_gone_after_a_day(site: Site) -> None:
    async with log_in(site, "alice") as alice, following(alice) as socket:
        old = await outcome(socket, await request_export(alice))
        for file in (site.folder / "media/exports").iterdir():
            os.utime(file, (time.time() - 90_000,) * 2)
        await asyncio.to_thread(
            site.shell.run,
            "from datetime import timedelta; from exports.models import *; from django.utils import timezone; "
            "Export.objects.update(updated_at=timezone.now() - timedelta(days=1, hours=1))",
        )
        new = await outcome(socket, await request_export(alice))
        assert "deleted" in await asyncio.to_thread(site.shell.call, "prune_exports")
        assert (await alice.http.get(old["download_url"])).status_code == 404
        assert (await alice.http.get(new["download_url"])).status_code == 200
    assert len(list((site.folder / "media/exports").iterdir())) == 1


# Death in the middle


async def fails(socket: Socket, job: Event, kill: Callable[[], None]) -> None:
    """Do something to whoever makes this export, and see it end as failed within the time promised."""
    with Stopwatch() as watch:
        kill()
        event = await outcome(socket, job)
        watch.check(PROMISED, "the export has failed")
    assert event["status"] == "failed"


@slow
async def test_killed_worker_ends_as_failed_once(mortal_site: Site, worker: Worker) -> None:
    # Two web processes and the worker's parent watch; one of them may say so.
    site = mortal_site
    async with (
        log_in(site, "alice") as alice,
        log_in(site, "bob") as bob,
        following(alice) as hers,
        following(bob) as his,
        asyncio.TaskGroup() as waiting,  # for both at once
    ):
        of_child = await request_export(alice)
        await under_way(hers, of_child)
        child = worker.child
        end_of_child = waiting.create_task(fails(hers, of_child, lambda: os.kill(child, signal.SIGKILL)))
        # The parent has another child take the next one, and is killed with it.
        of_worker = await request_export(bob)
        await under_way(his, of_worker)
        assert worker.child != child
        await fails(his, of_worker, worker.kill)
        await end_of_child
        for job in (of_child, of_worker):
            assert "interrupted" in (await stored(site, job))["error"]
        worker.start()
        # The next one is taken, and nothing more is heard of the first ones.
        another = await request_export(alice)
        await under_way(hers, another)
        assert [len(of(hers, "export_done", job)) for job in (of_child, of_worker)] == [1, 1]


@slow
async def test_worker_that_comes_back_late_changes_nothing(mortal_site: Site, worker: Worker) -> None:
    async with log_in(mortal_site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        await under_way(socket, job)
        child = worker.child
        await fails(socket, job, lambda: os.kill(child, signal.SIGSTOP))
        heard = len(socket.events)
        os.kill(child, signal.SIGCONT)
        another = await request_export(alice)
        await under_way(socket, another)  # by the same child, which has given the first one up
        assert [e["job_id"] for e in socket.events[heard:]] == [another["job_id"]]
        assert (await stored(mortal_site, job))["status"] == "failed"


@slow
async def test_killed_web_process_that_made_the_export_ends_it_as_failed(tmp_path: Any) -> None:
    environ = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "REDIS_URL": "", **LONG}
    with Site(environ=environ) as site:
        async with log_in(site, "alice") as alice:
            async with following(alice) as socket:
                job = await request_export(alice)
                await under_way(socket, job)
                cursor = socket.cursor
            with Stopwatch() as watch:
                site.kill()
                site.start()
                async with alice.socket(query=f"since={cursor}") as again:
                    event = await outcome(again, job)
                watch.check(PROMISED, "the export has failed")
    assert event["status"] == "failed"


@slow
@pytest.mark.parametrize("worker", [{"EXPORT_SECONDS": "3"}], indirect=True, ids=["3 s"])
async def test_worker_outlives_a_restart_of_the_broker(
    broker: Redis, mortal_site: Site, worker: Worker
) -> None:
    async with log_in(mortal_site, "alice") as alice, following(alice) as socket:
        job = await request_export(alice)
        await under_way(socket, job)
        broker.kill()
        broker.start()
        assert (await outcome(socket, job))["status"] == "done"
        another = await request_export(alice)
        assert (await outcome(socket, another))["status"] == "done"


@slow
async def test_broker_that_is_down_fails_the_export_and_not_the_request(
    broker: Redis, mortal_site: Site
) -> None:
    async with log_in(mortal_site, "alice") as alice, following(alice) as socket:
        broker.kill()
        job = await request_export(alice)
        assert (await outcome(socket, job))["status"] == "failed"
        assert "could not be started" in (await stored(mortal_site, job))["error"]
    broker.start()
