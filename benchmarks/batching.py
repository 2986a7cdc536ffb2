"""What a second batch is worth: how long a query waits while another one's batch is held up (P12).

Handshakes are looked up in batches. Here a lookup takes 3 ms, and one in a hundred batches hangs for a second, as a
host's adapter or a database connection may. The same code is run with one batch at a time and with two.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.run import Options, say
from benchmarks.table import Figure
from orgrealtime.concurrency import batching

PER_SECOND = 200
LOOKUP_SECONDS = 0.003
HANGING_SECONDS = 1.0
HANGING_BATCHES = 0.01


async def waiting_times(seconds: float, chance: random.Random) -> list[float]:
    """How long each of many queries waited, that came by chance."""
    loop = asyncio.get_running_loop()

    async def look_up(queries: Sequence[int]) -> list[int]:
        hangs = chance.random() < HANGING_BATCHES
        await asyncio.sleep(HANGING_SECONDS if hangs else LOOKUP_SECONDS)
        return list(queries)

    async def concerns_all(error: Exception) -> bool:
        return True

    async def ask(query: int) -> float:
        began = loop.time()
        await batcher.ask(query)
        return loop.time() - began

    batcher = batching.Batcher[int, int](look_up, concerns_all)
    asking = []
    for query in range(round(seconds * PER_SECOND)):
        asking.append(asyncio.create_task(ask(query)))
        await asyncio.sleep(chance.expovariate(PER_SECOND))
    waited = await asyncio.gather(*asking)
    await batcher.close()
    return waited


def figures(options: Options) -> list[Figure]:
    """P12."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    before = batching.MAX_BATCHES_AT_ONCE
    try:
        for run in range(options.runs):
            for name, most in (("orgrealtime", before), ("one batch at a time", 1)):
                batching.MAX_BATCHES_AT_ONCE = most
                waited = asyncio.run(waiting_times(options.size(30, 2), random.Random(run)))
                hundredths = statistics.quantiles(waited, n=100)
                say(f"{name}: median {hundredths[49]:.3f} s, p99 {hundredths[98]:.3f} s")
                found["median"][name].append(1000 * hundredths[49])
                found["p95"][name].append(1000 * hundredths[94])
                found["p99"][name].append(1000 * hundredths[98])
    finally:
        batching.MAX_BATCHES_AT_ONCE = before
    goals = {"one batch at a time": 1.0}
    return [
        Figure("P12", f"{name} of a lookup's wait, one batch in 100 hangs", "ms", values, goals)
        for name, values in found.items()
    ]
