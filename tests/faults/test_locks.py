"""Tables that are locked as a whole, and thousands of events that become visible at once."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter

import httpx
import pytest
import websockets

from tests.faults.client import Client
from tests.faults.load import Load, latency
from tests.faults.rig import Rig
from tests.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session")]

quick = pytest.mark.faults_quick
LOCKED_SECONDS = 20
NEWCOMERS = 4
WAITING_BACKENDS = 12  # of two workers
BURSTS = 4
BURST_EVENTS = 10_000
READ_AT_ONCE_SECONDS = 3


async def knock(client: Client) -> tuple[int, str | None]:
    """Connect as this client would; return the answer's status and `Retry-After`."""
    try:
        async with websockets.connect(
            f"ws://127.0.0.1:{client.port}/ws/orgs/{client.org}/notifications/",
            additional_headers={"Cookie": f"sessionid={client.session}"},
            origin=f"http://127.0.0.1:{client.port}",  # type: ignore[arg-type]
            compression=None,
            open_timeout=LIMIT_SECONDS,
        ) as connection:
            await connection.recv()
            return 101, None
    except websockets.InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers.get("Retry-After")


async def ask_for_a_page(rig: Rig, client: Client) -> tuple[int, str | None]:
    async with httpx.AsyncClient(
        base_url=rig.site.url, timeout=LIMIT_SECONDS, cookies={"sessionid": client.session}
    ) as http:
        answer = await http.get(f"/orgs/{client.org}/notifications/")
    return answer.status_code, answer.headers.get("Retry-After")


async def come_again_and_again(rig: Rig, client: Client, until: float) -> list[tuple[float, int]]:
    """Knock and ask for pages by turns; return how long each answer took, and its status."""
    took = []
    while time.monotonic() < until:
        for ask in (functools.partial(knock, client), functools.partial(ask_for_a_page, rig, client)):
            begin = time.monotonic()
            status, retry_after = await ask()
            took.append((time.monotonic() - begin, status))
            assert status in {101, 200} or (status == 503 and retry_after), (status, retry_after)
            await asyncio.sleep(0.5)
    return took


@pytest.mark.parametrize(
    ("table", "mode"),
    [
        pytest.param("orgrealtime_notificationevent", "ACCESS EXCLUSIVE", marks=quick),
        ("orgrealtime_notificationevent", "SHARE"),
        ("orgrealtime_stream", "ACCESS EXCLUSIVE"),
        ("orgrealtime_recipient", "ACCESS EXCLUSIVE"),
        ("tracker_membership", "ACCESS EXCLUSIVE"),
        ("django_session", "ACCESS EXCLUSIVE"),
    ],
)
async def test_f45_a_table_is_locked(rig: Rig, table: str, mode: str) -> None:
    async with rig.load(
        "F45",
        f"{table} locked for {LOCKED_SECONDS} s, {mode}",
        f"newcomers let in or 503 <=5 s, <={WAITING_BACKENDS} backends wait, nobody closed",
    ) as load:
        codes = load.codes()
        async with rig.database.locked_table(table, mode), asyncio.TaskGroup() as group:
            end = time.monotonic() + LOCKED_SECONDS
            comers = [
                group.create_task(come_again_and_again(rig, client, end))
                for client in load.clients[: 10 * NEWCOMERS : 10]
            ]
            waiting = []
            while time.monotonic() < end:
                waiting.append(await asyncio.to_thread(rig.database.waiting_backends))
                await asyncio.sleep(0.25)
        answers = [answer for comer in comers for answer in comer.result()]
        slowest = max(took for took, _ in answers)
        load.measured(
            f"{len(answers)} answers {dict(Counter(status for _, status in answers))}",
            f"the slowest {slowest:.1f} s",
            f"at most {max(waiting)} backends waited",
        )
        load.watch.check(5, "a newcomer's answer", took=slowest)
        assert max(waiting) <= WAITING_BACKENDS
        assert load.codes() == codes, "connections were closed"
        await load.caught_up(within=15)


@quick
async def test_f46_bursts_are_read_page_by_page_and_hold_nobody_up(rig: Rig) -> None:
    async with rig.load(
        "F46",
        f"{BURST_EVENTS} events by one transaction in each of {BURSTS} organisations",
        f"the first of them <={READ_AT_ONCE_SECONDS} s, others' events <=5 s",
    ) as load:
        bursting = [f"org-{number}" for number in range(BURSTS)]
        others = [client for client in load.clients if client.org not in bursting]
        calm_since = time.monotonic()
        await asyncio.sleep(5)
        begin = time.monotonic()
        calm = latency(others, calm_since, begin)
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(left_at_the_first(rig, load, org)) for org in bursting]
            bursts = [
                group.create_task(rig.host.burst(load.ledger.run, org, BURST_EVENTS)) for org in bursting
            ]
        committed, left = ([task.result() for task in tasks] for tasks in (bursts, watching))
        await load.until(lambda: all_have(load, bursting), 120, "all have all of the bursts")
        end = time.monotonic()
        longest = max(first_of(load, org) - at for org, at in zip(bursting, committed, strict=True))
        during = latency(others, min(committed), end)
        load.measured(
            f"the first after {longest:.1f} s, when {left} had no number yet, all after {end - min(committed):.1f} s",
            f"others' p99 {calm:.0f} -> {during:.0f} ms",
        )
        assert min(left) > 0, "the first events waited until the last had their numbers"
        load.watch.check(READ_AT_ONCE_SECONDS, "the first of a burst", took=longest)
        load.watch.check(5, "p99 of the others' events", took=during / 1000)


async def left_at_the_first(rig: Rig, load: Load, org: str) -> int:
    """How many events of a burst have no number yet when a client has the first."""
    clients = [client for client in load.clients if client.org == org]
    first = f"{load.ledger.run}-burst-{org}-0"
    await load.until(lambda: any(first in client.marks for client in clients), 120, "the first of a burst")
    return await asyncio.to_thread(rig.database.without_a_number, org)


def is_of_a_burst(mark: str | None, load: Load) -> bool:
    return mark is not None and mark.startswith(f"{load.ledger.run}-burst")


def all_have(load: Load, orgs: list[str]) -> bool:
    return all(
        f"{load.ledger.run}-burst-{client.org}-{BURST_EVENTS - 1}" in client.marks
        for client in load.clients
        if client.org in orgs
    )


def first_of(load: Load, org: str) -> float:
    """When the last of an organisation's clients had the first event of its burst."""
    return max(
        next(receipt.at for receipt in client.log.receipts if is_of_a_burst(receipt.mark, load))
        for client in load.clients
        if client.org == org
    )
