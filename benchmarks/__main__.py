"""Measure beside the peers, and print one table: `python -m benchmarks [FIGURE …] [--quick]`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks import machine
from benchmarks.run import Options
from benchmarks.table import Figure, markdown, plot

# The order in which they are measured; what each is about is said at the top of its module.
FIGURES = [
    "fanout",
    "storm",
    "idle",
    "publishing",
    "latency",
    "paging",
    "work",
    "batching",
    "topics",
    "rooms",
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured; medians are shown")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it works")
    parser.add_argument("--plot", type=Path, default=Path("benchmarks.png"), help="where the plot goes")
    given = parser.parse_args()
    if unknown := set(given.figures) - set(FIGURES):
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; choose from {', '.join(FIGURES)}")
    options = Options(runs=1 if given.quick else given.runs, quick=given.quick)
    found: list[Figure] = []
    for name in given.figures or FIGURES:
        found += importlib.import_module(f"benchmarks.{name}").figures(options)
    print(markdown(found))
    print(f"\n{machine.describe()}; medians of {options.runs} runs, server on one core, clients on another.")
    plot(found, given.plot)
    print(f"Plot: {given.plot}")


if __name__ == "__main__":
    main()
