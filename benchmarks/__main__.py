"""Measure and print one table: `python -m benchmarks [--sockets 500] [--rounds 40] [--runs 5]`."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from benchmarks import fanout, publishing
from benchmarks.fanout import Candidate, Figures
from tests.servers import Site

Candidates = Callable[[], AbstractContextManager[Candidate]]


def medians(
    open_candidate: Candidates, *, runs: int, sockets: int, rounds: int, depth: int
) -> Iterator[Figures]:
    """Figures of one candidate, several times from scratch."""
    for _ in range(runs):
        with open_candidate() as candidate:
            figures = fanout.measure(candidate, sockets=sockets, rounds=rounds, depth=depth)
            print(
                f"  {candidate.name}: {figures.cpu * 1e6:.1f} µs, {figures.last * 1e3:.1f} ms",
                file=sys.stderr,
            )
            yield figures


def row(name: str, unit: str, scale: float, ours: float, theirs: float) -> None:
    ratio = f"{theirs / ours:.1f}x better" if theirs >= ours else f"{ours / theirs:.2f}x as much"
    print(f"| {name} | {ours * scale:.1f} {unit} | {theirs * scale:.1f} {unit} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument(
        "--rounds", type=int, default=40, help="rounds of single events; bursts have a quarter"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each candidate; medians are shown")
    options = parser.parse_args()
    rows: list[tuple[str, str, float, float, float]] = []
    for depth, rounds in ((1, options.rounds), (50, max(2, options.rounds // 4))):
        print(f"{depth} at a time …", file=sys.stderr)
        both = [
            list(medians(each, runs=options.runs, sockets=options.sockets, rounds=rounds, depth=depth))
            for each in (fanout.orgrealtime, fanout.plain_channels)
        ]
        what = "one event" if depth == 1 else f"bursts of {depth}"
        for field, unit, scale in (("cpu", "µs", 1e6), ("last", "ms", 1e3)):
            ours, theirs = (statistics.median(getattr(figures, field) for figures in each) for each in both)
            label = "server CPU per delivery" if field == "cpu" else "time to the last delivery"
            rows.append((f"{what}, {options.sockets} sockets: {label}", unit, scale, ours, theirs))
    with Site() as site:
        costs = [publishing.measure(site) for _ in range(options.runs)]
    publish, create = (statistics.median(cost[index] for cost in costs) for index in (0, 1))
    print(f"Python {platform.python_version()}, {platform.machine()}, medians of {options.runs} runs\n")
    print("| | orgrealtime | plain Channels | |\n|---|---|---|---|")
    for each in rows:
        row(*each)
    print("\n| | publish() | Model.objects.create() | |\n|---|---|---|---|")
    row("in a transaction", "µs", 1e6, publish, create)


if __name__ == "__main__":
    main()
