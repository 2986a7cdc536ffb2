"""The load of one scenario: clients that are live, a publisher, and what is said of both in the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.checker import Committed, check
from tests.faults.client import Client
from tests.faults.host import Host
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing
from tests.faults.stores import Database
from tests.stopwatch import Stopwatch


@dataclass(frozen=True)
class Scenario:
    """What all loads of a rig have in common, and the number of this one."""

    seed: int
    number: int
    rate: float
    members: list[Any]
    rooms: dict[str, frozenset[str]]
    database: Database


@dataclass
class Result:
    """One row of the table that a session ends with."""

    fault: str
    injected: str
    bound: str
    measured: list[str] = field(default_factory=list)
    verdict: dict[str, int] = field(default_factory=dict)


class Load:
    """The clients and the publisher of one scenario."""

    def __init__(self, scenario: Scenario, result: Result, host: Host, port: int) -> None:
        self.scenario, self.result = scenario, result
        self.watch = Stopwatch()
        run = f"{scenario.seed}-{scenario.number}-{result.fault}"
        chance = random.Random(run)
        self.ledger = Ledger(run, scenario.rooms)
        self._publishing = Publishing(host, self.ledger, chance.randrange(1 << 30), scenario.rate)
        self._port = port
        self.clients: list[Client] = []
        for member in scenario.members:
            self.add_client(*member)
        self._remembered: list[Committed] = []
        self.former: list[Committed] = []

    def add_client(self, org: str, user_id: int, name: str, session: str, role: str = "member") -> Client:
        """One more member who connects."""
        self.ledger.users[user_id] = name
        chance = random.Random(f"{self.ledger.run}-{org}-{name}")
        client = Client(self._port, org, user_id, name, session, chance, role)
        self.clients.append(client)
        return client

    async def begin(self, *, silent: bool = False) -> None:
        await self.until(lambda: all(client.is_live for client in self.clients), 60, "clients are live")
        if not silent:
            await self.publish(150)

    async def publish(self, some: int = 1) -> None:
        """Begin to publish, again after `stop_publishing`; return when so many events are committed."""
        await self._publishing.begin()
        await self._is_published(some, "publishing has begun")

    async def goes_on(self) -> None:
        """Publish some seconds more: what comes after a fault is to arrive as well."""
        if self._publishing.is_going_on:
            await self._is_published(2 * self._publishing.rate, "publishing goes on")

    async def _is_published(self, some: float, what: str) -> None:
        due = len(self.ledger.acknowledged) + some
        await self.until(lambda: len(self.ledger.acknowledged) >= due, 30, what)

    async def stop_publishing(self) -> None:
        await self._publishing.stop()

    async def until(self, condition: Callable[[], Any], seconds: float, what: str) -> float:
        """Wait until the condition holds, which is promised within so many seconds; return those it took."""
        begin = time.monotonic()
        while not condition():
            self.watch.check(seconds, f"not yet: {what}; {self.describe()}", took=time.monotonic() - begin)
            await asyncio.sleep(0.05)
        return time.monotonic() - begin

    def describe(self) -> str:
        live = sum(client.is_live for client in self.clients)
        resets = Counter(" ".join(client.resets) for client in self.clients if client.resets)
        return (
            f"{live} of {len(self.clients)} clients live, connections ended with {dict(self.codes())}, "
            f"resets {dict(resets)}"
        )

    def codes(self) -> Counter[int | str]:
        return Counter(code for client in self.clients for code in client.codes)

    async def caught_up(self, within: float = 60, *, of: list[Client] | None = None) -> float:
        """Wait until every client is live and has all that is committed now; return the seconds it took."""
        clients = [each for each in of or self.clients if not each.is_stopped]
        due = {client: self.ledger.due(client.log, since=client.reset_at) for client in clients}
        reset_at = {client: client.reset_at for client in clients}

        def has_all(client: Client) -> bool:
            if reset_at[client] != client.reset_at:  # what came before the reset is not due any more
                reset_at[client] = client.reset_at
                due[client] &= self.ledger.due(client.log, since=client.reset_at)
            due[client] -= client.marks
            return not due[client]

        def is_caught_up() -> bool:
            return all(client.is_stopped or (has_all(client) and client.is_live) for client in clients)

        seconds = await self.until(is_caught_up, within, "all have caught up")
        self.measured(f"caught up {seconds:.1f} s")
        return seconds

    def measured(self, *texts: str) -> None:
        self.result.measured += texts

    async def remember(self, *, of: list[Client] | None = None) -> None:
        """Stop publishing, and remember what is committed now, because it is about to be deleted."""
        await self.stop_publishing()
        await self.caught_up(of=of)
        self._remembered = await self.ledger.committed(self.scenario.database.url)

    async def remember_former(self, database_url: str) -> None:
        """Remember what is committed in a database that is replaced under load, where nothing is committed any more.

        What its successor doesn't have is gone: nobody has to get it.
        """
        self.former = await self.ledger.committed(database_url, pending=True)

    def revoke(self, client: Client, at: float) -> None:
        client.log.revoked_at = at

    async def judge(self, *, revocation_bound: float = 2.0, **options: Any) -> None:
        left = await self.ledger.committed(self.scenario.database.url)
        committed = list({*self._remembered, *left})
        logs = [client.log for client in self.clients]
        marks = self.ledger.acknowledged

        # What a publisher was told has failed may be committed all the same, and is due like all else.
        async def verdict() -> dict[str, int]:
            bound = self.watch.allowed(revocation_bound)
            return await asyncio.to_thread(
                check,
                committed,
                logs,
                acknowledged=marks,
                gone=self.former,
                revocation_bound=bound,
                **options,
            )

        self.result.verdict = await verdict()
        begin = time.monotonic()
        while self.result.verdict["LOST"] and time.monotonic() - begin < self.watch.allowed(12):
            await asyncio.sleep(1)
            self.result.verdict = await verdict()
        self.measured(f"{len(committed)} events, {sum(len(log.receipts) for log in logs)} receipts")
        wrong = {name: count for name, count in self.result.verdict.items() if count}
        assert not wrong, f"{wrong} with seed {self.scenario.seed}; {self.describe()}"

    async def close(self) -> None:
        await self._publishing.kill()
        await asyncio.gather(*(client.close() for client in self.clients))


def slowest(clients: list[Client], since: float) -> float:
    """Seconds from the call of `publish` to one of these clients, of what was published after `since`."""
    return max(
        receipt.at - receipt.sent
        for client in clients
        for receipt in client.log.receipts
        if receipt.sent is not None and receipt.sent >= since
    )


def latency(clients: list[Client], begin: float, end: float) -> float:
    """Milliseconds from the call of `publish` to the client, 99th percentile, of what came within these seconds."""
    took = sorted(
        receipt.at - receipt.sent
        for client in clients
        for receipt in client.log.receipts
        if receipt.sent is not None and begin <= receipt.at <= end
    )
    return took[int(len(took) * 0.99)] * 1000 if took else 0.0
