"""The process that publishes while something breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

from tests.faults.checker import Address
from tests.faults.host import Host
from tests.faults.ledger import Acknowledged, Ledger


class Publishing:
    """The publisher of a scenario, which may be stopped and begun again; what it is told goes into the ledger."""

    def __init__(self, host: Host, ledger: Ledger, seed: int, rate: float) -> None:
        self.rate = rate
        self._host = host
        self._ledger = ledger
        self._seed = seed
        self._publishers = 0
        self._publisher: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_going_on(self) -> bool:
        return self._publisher is not None

    async def begin(self) -> None:
        self._publishers += 1
        run = f"{self._ledger.run}-{self._publishers}"
        self._publisher = await self._host.python(
            "-m", "tests.faults.publisher", run, self._seed, self.rate, stderr=None
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._publisher
        assert self._publisher.stdout
        async for line in self._publisher.stdout:
            report = json.loads(line)
            self._ledger.milliseconds.append((time.monotonic(), report["ms"]))
            if "error" in report:
                self._ledger.failed.append(report["error"])
            else:
                audience = None if report["to"] is None else frozenset(report["to"])
                address = Address(report["org"], audience, report["type"])
                self._ledger.acknowledged[report["mark"]] = Acknowledged(address, report["begun"])

    async def stop(self) -> None:
        if self._publisher is None or self._reader is None:
            return
        assert self._publisher.stdin
        self._publisher.stdin.close()
        await self._reader
        assert await self._publisher.wait() == 0
        self._publisher = None

    async def kill(self) -> None:
        if self._publisher is not None:
            with contextlib.suppress(ProcessLookupError):
                self._publisher.kill()
            await self._publisher.wait()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
