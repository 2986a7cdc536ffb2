"""What the benchmarks print: medians, ratios, and whether a goal is reached."""

from __future__ import annotations

import pytest

from benchmarks.table import Figure, markdown, verdicts


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
