"""The database goes back under load, as a whole or in parts (docs/explanation/faults.md)."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import pytest

from tests.faults.client import Client
from tests.faults.histories import Demotion, History, Promotion, Template
from tests.faults.ledger import EVENT
from tests.faults.load import Load
from tests.faults.processes import frozen
from tests.faults.rig import Rig

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session")]

quick = pytest.mark.faults_quick
BEHIND_SECONDS = 1.5


@pytest.mark.parametrize("first", ["workers", "others"])
@pytest.mark.parametrize(
    ("case", "kind", "injected"),
    [
        pytest.param("F50", Promotion, f"a standby promoted, {BEHIND_SECONDS} s behind", id="promotion"),
        pytest.param("F51", Template, f"a copy by TEMPLATE, {BEHIND_SECONDS} s old", id="template"),
    ],
)
async def test_f50_f51_the_database_goes_back_under_running_workers(
    rig: Rig, case: str, kind: type[History], injected: str, first: str
) -> None:
    """Whoever looks first: the workers, or a page, a job and a client at another worker while they stand still."""
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(
            rig.load(
                case, f"{injected}, {first} look first", "reset to all, whoever looks", allow_resets=True
            )
        )
        history = await stack.enter_async_context(kind(rig))
        await history.fall_behind(BEHIND_SECONDS)
        away, here = load.clients[::3], [client for client in load.clients if client not in load.clients[::3]]
        for client in away:
            await client.leave()
        if first == "workers":
            await history.replace(load.remember_former)
        else:
            process = await rig.host.python("-m", "tests.faults.look")
            assert process.stdout
            assert await process.stdout.readline() == b"ready\n"
            async with frozen(*rig.processes.workers()):
                await history.replace(load.remember_former)
                await has_grown(rig, load)
                await others_look(process, load, away)
        begin = time.monotonic()
        for client in away:
            client.come_back()
        await load.until(lambda: all(client.resets for client in load.clients), 15, "all are reset")
        load.measured(f"all reset after {time.monotonic() - begin:.1f} s")
        await load.goes_on()
        await load.caught_up(within=10)
        await are_reset_first(load)
        if first == "workers":  # the others may have stood still for longer than a client waits
            assert not [client.codes for client in here if client.codes], load.codes()
            assert all(len(client.resets) == 1 for client in here)


async def has_grown(rig: Rig, load: Load) -> None:
    """All streams have grown past the cursors of everybody."""
    numbers = [(event.address.org, event.seq) for event in load.former]
    ends = {org: max(seq for of, seq in numbers if of == org) for org, _ in numbers}

    def is_past() -> bool:
        now = rig.database.stream_ends()
        return all(now[org] > end + 2 for org, end in ends.items())

    await load.until(is_past, 30, "all streams have grown past their former ends")


async def others_look(process: asyncio.subprocess.Process, load: Load, away: list[Client]) -> None:
    """A page of one organisation, a job of another, and a client that returns to a third one."""
    page, client = (next(each for each in away if each.org == org) for org in ("org-1", "org-2"))
    looks = [
        ["page", page.org, page.session, page.cursor],
        ["job", "org-3", f"{load.ledger.run}-job"],
        ["client", client.org, client.session, client.cursor],
    ]
    out, err = await process.communicate(json.dumps(looks).encode())
    assert process.returncode == 0, err.decode()
    status, epoch, frames = json.loads(out)
    assert status == 410
    assert epoch not in {each.cursor.partition(".")[0] for each in load.clients if each.org == "org-3"}
    assert frames[:2] == ["welcome", "reset"]


async def are_reset_first(load: Load) -> None:
    """Each client has been reset before it got anything that the former database didn't have."""
    now = await load.ledger.committed(load.scenario.database.url, pending=True)
    former = {event.mark for event in load.former}
    new = {event.mark for event in now} - former
    assert former - {event.mark for event in now}, "nothing has been lost"
    for client in load.clients:
        marks = [receipt.mark for receipt in client.log.receipts]
        assert not new & set(marks[: marks.index(None)]), "an event of the new history before the reset"
        assert new & set(marks), "no event of the new history"


@quick
async def test_f52_events_flow_after_a_promotion_though_the_former_primary_answers(rig: Rig) -> None:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(
            rig.load(
                "F52",
                "a standby promoted, the former primary answers and takes no writes",
                "reset to all, then events, <=10 s",
                allow_resets=True,
            )
        )
        history = await stack.enter_async_context(Demotion(rig))
        await history.fall_behind(BEHIND_SECONDS)
        await history.replace(load.remember_former)
        promoted = time.monotonic()
        seconds = await load.until(
            lambda: all(gets_events(client, promoted) for client in load.clients), 10, "events flow"
        )
        load.measured(f"events flow after {seconds:.1f} s")
        await load.caught_up(within=10)
        await are_reset_first(load)
        assert not load.codes(), load.codes()


def gets_events(client: Client, since: float) -> bool:
    return bool(client.resets) and any((receipt.sent or 0) > since for receipt in client.log.receipts[-100:])


LOCK = "SELECT 1 FROM orgrealtime_stream WHERE organization_id = %(org)s FOR UPDATE"
SET_BACK = "UPDATE orgrealtime_stream SET head = head - 5 WHERE organization_id = %(org)s"
DELETE_STREAM = "DELETE FROM orgrealtime_stream WHERE organization_id = %(org)s"
DELETE_EVENTS = f"""
    DELETE FROM orgrealtime_notificationevent e USING tracker_organization o
    WHERE o.id = e.organization_id AND o.id = %(org)s
    RETURNING {EVENT}
"""  # noqa: S608 - of constants
MOVE_AHEAD = """
    UPDATE orgrealtime_notificationevent SET seq = seq + 50 WHERE id = (
        SELECT max(id) FROM orgrealtime_notificationevent
        WHERE organization_id = %(org)s AND seq IS NOT NULL AND audience IS NULL
    )
"""
DAMAGES = {
    "org-1": [DELETE_STREAM],
    "org-2": [LOCK, SET_BACK],
    "org-3": [LOCK, MOVE_AHEAD],
    "org-4": [LOCK, DELETE_STREAM, DELETE_EVENTS],  # made again: those whom its events were for are left
}


@quick
async def test_f53_streams_are_restored_in_parts(rig: Rig) -> None:
    async with rig.load(
        "F53",
        "row lost, head set back, event ahead, made again",
        "mended, reset to theirs",
        allow_resets=True,
    ) as load:
        place = len(rig.log())
        for org, statements in DAMAGES.items():
            rows = rig.database.transaction(*statements, org=rig.database.organization_id(org))
            load.former += [load.ledger.event(*row) for row in rows]
        theirs = [client for client in load.clients if client.org in DAMAGES]
        seconds = await load.until(lambda: all(client.resets for client in theirs), 15, "theirs are reset")
        load.measured(f"reset after {seconds:.1f} s")
        await load.caught_up(within=10)
        newcomers = [client for client in theirs if client.user.endswith("user-0")]
        for client in newcomers:
            await client.leave()
            client.come_back()
        await load.goes_on()
        await load.caught_up(within=10)
        assert {(client.org in DAMAGES, len(client.resets)) for client in load.clients} == {
            (True, 1),
            (False, 0),
        }
        assert rig.log_since(place).count("the stream ended before its events") == len(DAMAGES)
        assert not load.codes(), load.codes()
