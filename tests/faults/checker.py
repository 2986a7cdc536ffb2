"""One verdict for all scenarios: what was committed, held against what each client got. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

COUNTERS = ("LOST", "GHOST", "LEAK", "LATE", "DISORDER", "DUPLICATE", "SILENT_RESET")


class Address(NamedTuple):
    """Whom an event is for: of its organisation `audience` (user names; None for all), if they may see its type."""

    org: str
    audience: frozenset[str] | None = None
    type: str = "note"

    def includes(self, log: ClientLog) -> bool:
        return (
            self.org == log.org
            and (self.audience is None or log.user in self.audience)
            and (log.types is None or self.type in log.types)
        )


class Committed(NamedTuple):
    """An event as the database has it."""

    mark: str
    seq: int
    address: Address


class Receipt(NamedTuple):
    """An event or a reset (without a mark) as a client got it.

    `at` is when it came and `sent` when its publisher began, in seconds of the machine's monotonic clock.
    """

    mark: str | None
    cursor: str
    at: float = 0.0
    sent: float | None = None


@dataclass
class ClientLog:
    """What one client got, in the order in which it came; `start` is the cursor of its first `welcome`.

    `types` are those that its user may see, None for all.
    """

    user: str
    org: str
    start: str
    receipts: list[Receipt] = field(default_factory=list)
    revoked_at: float = math.inf
    types: frozenset[str] | None = None


def check(
    committed: Iterable[Committed],
    logs: Iterable[ClientLog],
    *,
    acknowledged: Iterable[str] = (),
    gone: Iterable[Committed] = (),
    revocation_bound: float = 2.0,
    allow_resets: bool = False,
) -> dict[str, int]:
    """Count what went wrong, by the names of COUNTERS.

    `acknowledged` are the marks whose publishers were told that they are committed. `gone` is what the fault itself has
    taken out of the database: whoever got it saw no ghost, and nobody has to have it. What a `reset` has skipped is
    lost unless `allow_resets` says that the fault was one which resets are for.
    """
    events = {event.mark: event for event in committed}
    known = {event.mark: event for event in gone} | events
    verdict = dict.fromkeys(COUNTERS, 0)
    verdict["LOST"] = len(set(acknowledged) - known.keys())
    for log in logs:
        _check_contents(log, known, revocation_bound, verdict)
        skipped = _check_order(log, verdict)
        if math.isinf(log.revoked_at):
            verdict["LOST"] += len(_missing(log, events, skipped if allow_resets else []))
    return verdict


def _check_contents(
    log: ClientLog, events: Mapping[str, Committed], bound: float, verdict: dict[str, int]
) -> None:
    for receipt in log.receipts:
        if receipt.mark is None:
            continue
        if receipt.mark not in events:
            verdict["GHOST"] += 1
        elif not events[receipt.mark].address.includes(log):
            verdict["LEAK"] += 1
        if receipt.at > log.revoked_at + bound:
            verdict["LATE"] += 1


def _check_order(log: ClientLog, verdict: dict[str, int]) -> list[range]:
    """Count what is out of order; return the numbers that resets have skipped."""
    epoch, last = _parse(log.start)
    seen: set[tuple[str, int]] = set()
    skipped = []
    for receipt in log.receipts:
        receipt_epoch, seq = _parse(receipt.cursor)
        if receipt.mark is None:
            skipped.append(range(last + 1, seq + 1) if receipt_epoch == epoch else range(seq + 1))
            if seq < last or receipt_epoch != epoch:
                seen.clear()  # an older database may give the same numbers again
        elif receipt_epoch != epoch:
            verdict["SILENT_RESET"] += 1
        elif (epoch, seq) in seen:
            verdict["DUPLICATE"] += 1
        elif seq <= last:
            verdict["DISORDER"] += 1
        if receipt.mark is not None:
            seen.add((receipt_epoch, seq))
        last = seq if receipt.mark is None or receipt_epoch != epoch else max(last, seq)
        epoch = receipt_epoch
    return skipped


def _missing(log: ClientLog, events: Mapping[str, Committed], skipped: list[range]) -> list[str]:
    got = {receipt.mark for receipt in log.receipts}
    start = _parse(log.start)[1]
    return [
        mark
        for mark, event in events.items()
        if event.address.includes(log)
        and event.seq > start
        and mark not in got
        and not any(event.seq in numbers for numbers in skipped)
    ]


def _parse(cursor: str) -> tuple[str, int]:
    epoch, _, seq = cursor.partition(".")
    return epoch, int(seq)
