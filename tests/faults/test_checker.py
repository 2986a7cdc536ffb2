"""Each counter counts what it is named after, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.checker import COUNTERS, Address, ClientLog, Committed, Receipt, check

EVENTS = [
    Committed("one", 1, Address("acme")),
    Committed("two", 2, Address("acme", frozenset({"bob"}))),
    Committed("three", 3, Address("acme", type="secret")),
    Committed("theirs", 1, Address("globex")),
]
NOTES = frozenset({"note"})
FIRST, THIRD = Receipt("one", "e.1"), Receipt("three", "e.3")


def verdict(
    *receipts: Receipt,
    revoked_at: float = float("inf"),
    types: frozenset[str] | None = None,
    **options: Any,
) -> dict[str, int]:
    """What was wrong with alice's log, without the counters that are 0."""
    log = ClientLog("alice", "acme", "e.0", list(receipts), revoked_at, types)
    found = check(EVENTS, [log], **options)
    assert tuple(found) == COUNTERS
    return {name: count for name, count in found.items() if count}


def test_a_clean_log_has_no_counts() -> None:
    assert verdict(FIRST, THIRD) == {}


@pytest.mark.parametrize(
    ("receipts", "expected"),
    [
        ([FIRST], {"LOST": 1}),
        ([FIRST, THIRD, Receipt("never", "e.4")], {"GHOST": 1}),
        ([FIRST, Receipt("two", "e.2"), THIRD], {"LEAK": 1}),
        ([FIRST, THIRD, Receipt("theirs", "e.4")], {"LEAK": 1}),
        ([THIRD, FIRST], {"DISORDER": 1}),
        ([FIRST, FIRST, THIRD], {"DUPLICATE": 1}),
        ([FIRST, THIRD, FIRST], {"DUPLICATE": 1}),
        ([FIRST, Receipt("three", "f.3")], {"SILENT_RESET": 1}),
        ([FIRST, Receipt(None, "e.3")], {"LOST": 1}),
    ],
)
def test_each_wrong_is_counted(receipts: list[Receipt], expected: dict[str, int]) -> None:
    assert verdict(*receipts) == expected


def test_a_type_that_a_guest_may_not_see_is_a_leak_and_not_lost() -> None:
    assert verdict(FIRST, types=NOTES) == {}
    assert verdict(FIRST, THIRD, types=NOTES) == {"LEAK": 1}
    assert verdict(types=NOTES) == {"LOST": 1}


def test_one_user_gets_in_each_organisation_what_is_for_that_one() -> None:
    here, there = ClientLog("alice", "acme", "e.0", [FIRST, THIRD]), ClientLog("alice", "globex", "f.0")
    assert check(EVENTS, [here, there])["LOST"] == 1
    there.receipts = [Receipt("theirs", "f.1")]
    assert not any(check(EVENTS, [here, there]).values())
    there.receipts.append(Receipt("three", "f.3"))
    assert check(EVENTS, [here, there])["LEAK"] == 1


def test_what_comes_after_the_bound_of_a_revocation_is_late_and_what_is_missing_is_not_lost() -> None:
    late = [Receipt("one", "e.1", at=11.0), Receipt("three", "e.3", at=12.5)]
    assert verdict(*late, revoked_at=10.0) == {"LATE": 1}
    assert verdict(FIRST, revoked_at=10.0) == {}


def test_what_was_acknowledged_and_is_not_in_the_database_is_lost() -> None:
    assert verdict(FIRST, THIRD, acknowledged=["one", "gone"]) == {"LOST": 1}


def test_an_announced_reset_excuses_what_it_skips_where_resets_are_expected() -> None:
    assert verdict(FIRST, Receipt(None, "e.3"), allow_resets=True) == {}
    assert verdict(Receipt(None, "e.0"), FIRST, Receipt(None, "e.0"), FIRST, THIRD, allow_resets=True) == {}


def test_what_was_published_before_the_client_came_is_not_lost() -> None:
    assert check(EVENTS, [ClientLog("alice", "acme", "e.1", [THIRD])])["LOST"] == 0


def test_what_the_fault_took_out_of_the_database_is_neither_lost_nor_a_ghost() -> None:
    gone = [Committed("gone", 4, Address("acme")), Committed("theirs too", 5, Address("globex"))]
    log = ClientLog("alice", "acme", "e.0", [FIRST, THIRD, Receipt("gone", "e.4")])
    assert not any(check(EVENTS, [log], acknowledged=["gone"], gone=gone).values())
    log.receipts[-1] = Receipt("theirs too", "e.4")
    assert check(EVENTS, [log], gone=gone)["LEAK"] == 1
