"""How long a client that acknowledges is waited for: as long as it keeps up, and no longer than it may be silent."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.delivery.acknowledgements import MAX_UNACKNOWLEDGED, Acknowledgements
from tests.conftest import Configure
from tests.virtual import virtually

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def _patience(configure: Configure) -> None:
    configure(SEND_TIMEOUT_SECONDS=PATIENCE)


class GivenUp:
    def __init__(self) -> None:
        self.at: list[float] = []

    def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=20))
def test_each_event_is_acknowledged_once_and_none_that_was_not_sent(steps: list[tuple[int, int]]) -> None:
    acknowledged, sent = Acknowledgements(sent=0), 0
    counted = 0
    for more, seq in steps:
        acknowledged.add_sent(more)
        sent += more
        gained = acknowledged.acknowledge(min(seq, sent), sent)
        assert gained >= 0
        counted += gained
    assert counted <= sent
    assert counted == max([0, *(min(seq, upto) for seq, upto in _with_sent(steps))])


def _with_sent(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The numbers that were acknowledged, with how many had been sent until then."""
    sent, found = 0, []
    for more, seq in steps:
        sent += more
        found.append((seq, sent))
    return found


@virtually
async def test_client_that_keeps_up_is_never_given_up() -> None:
    acknowledged, given_up = Acknowledgements(sent=0), GivenUp()
    for number in range(1, 11):
        acknowledged.add_sent(MAX_UNACKNOWLEDGED - 1)
        assert not acknowledged.are_missing(given_up)
        seq = number * (MAX_UNACKNOWLEDGED - 1)
        acknowledged.acknowledge(seq, seq)
        await asyncio.sleep(PATIENCE)
    assert given_up.at == []


@virtually
async def test_client_that_stops_to_acknowledge_is_given_up_in_time_and_once() -> None:
    acknowledged, given_up = Acknowledgements(sent=MAX_UNACKNOWLEDGED), GivenUp()
    for _ in range(3):  # asked again and again meanwhile
        assert acknowledged.are_missing(given_up)
        await asyncio.sleep(PATIENCE / 4)
    await asyncio.sleep(PATIENCE)
    assert given_up.at == [pytest.approx(PATIENCE)]


@pytest.mark.parametrize("comes_back", [True, False])
@virtually
async def test_client_that_catches_up_or_has_gone_is_waited_for_no_more(comes_back: bool) -> None:
    acknowledged, given_up = Acknowledgements(sent=MAX_UNACKNOWLEDGED), GivenUp()
    assert acknowledged.are_missing(given_up)
    await asyncio.sleep(PATIENCE / 2)
    if comes_back:
        assert acknowledged.acknowledge(1, MAX_UNACKNOWLEDGED) == 1
        assert not acknowledged.are_missing(given_up)
    else:
        acknowledged.stop()
    await asyncio.sleep(PATIENCE)
    assert given_up.at == []
