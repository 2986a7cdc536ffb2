"""What the benchmarks print: medians, ratios, and whether a goal is reached; and what of a talk counts as seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.__main__ import FIGURES
from benchmarks.table import Figure, markdown, verdicts
from benchmarks.talk import Talk
from tests.project import ROOT


def figure(*, rate: bool = False, **values: list[float]) -> Figure:
    return Figure("P0", "something", "ms", values, {"peer": 0.5 if not rate else 2.0}, rate=rate)


@pytest.mark.parametrize(("ours", "verdict"), [(5.0, "yes"), (5.1, "no")])
def test_less_is_better_where_costs_are_compared(ours: float, verdict: str) -> None:
    (line,) = verdicts(figure(orgrealtime=[ours, 1, 99], peer=[10]), "orgrealtime")
    assert line == f"{ours / 10:.2f} x peer (≤ 0.5: {verdict})"


@pytest.mark.parametrize(("ours", "verdict"), [(20.0, "yes"), (19.0, "no")])
def test_more_is_better_where_rates_are_compared(ours: float, verdict: str) -> None:
    (line,) = verdicts(figure(rate=True, orgrealtime=[ours], peer=[10]), "orgrealtime")
    assert line.endswith(f"(≥ 2: {verdict})")


def test_peer_that_wasnt_there_is_left_out() -> None:
    assert list(verdicts(figure(orgrealtime=[1.0]), "orgrealtime")) == []
    assert "| P0 | something | orgrealtime: 1 ms | - |" in markdown([figure(orgrealtime=[1.0])])


def test_table_shows_medians_and_the_spread_of_the_runs() -> None:
    table = markdown([figure(orgrealtime=[3.0, 1.0, 2.0], peer=[1234.5])])
    assert "orgrealtime: 2 ms (1 to 3)<br>peer: 1,234 ms" in table


@pytest.mark.parametrize("name", FIGURES)
def test_page_of_the_benchmarks_tells_what_a_figure_is_about(name: str) -> None:
    assert f"`{name}.py`" in (ROOT / "benchmarks/README.md").read_text()


class Ear:
    """A socket of a talk that gets what is said to it by `hear`, after what it has sent went into `sent`."""

    close_code = 1000

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.frames: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, text: str) -> None:
        self.sent.append(text)

    def __aiter__(self) -> Ear:
        return self

    async def __anext__(self) -> str:
        frame = await self.frames.get()
        if frame is None:
            raise StopAsyncIteration
        return frame


async def test_message_of_a_talk_is_seen_when_the_last_has_it_in_whatever_frame() -> None:
    ears: list[Any] = [Ear(), Ear()]
    talk = Talk(ears, '{"body": "^#^ hello"}')
    listening = [asyncio.create_task(talk.listen(client)) for client in (0, 1)]
    first, second = await talk.say(0), await talk.say(1)
    assert [ear.sent for ear in ears] == [['{"body": "^0^ hello"}'], ['{"body": "^1^ hello"}']]
    ears[0].frames.put_nowait("a batch: ^0^ hello, ^1^ hello; and ^0^ once more")
    await first.own
    assert (first.last.done(), second.own.done(), talk.took) == (False, False, [])
    for frame in ('accepted: "0"', "^0^ hello", "^1^ hello"):
        ears[1].frames.put_nowait(frame)
    await asyncio.gather(first.last, second.own, second.last)
    assert len(talk.took) == 2
    ears[0].frames.put_nowait(None)
    with pytest.raises(RuntimeError, match="closed with 1000"):
        await listening[0]
    listening[1].cancel()
