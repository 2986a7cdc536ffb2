"""What all figures share: how often, how many, and which candidates are there."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.candidates import Candidate, Missing, Open


@dataclass(frozen=True)
class Options:
    """`quick` makes everything small, to see that it works: its numbers say little."""

    runs: int
    quick: bool

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


def side_by_side(
    opens: Iterable[Open], options: Options, measure: Callable[[Candidate], Mapping[str, float]]
) -> dict[str, dict[str, list[float]]]:
    """Measure each candidate `runs` times, by turns: `{measure: {candidate: values}}`. Those missing are left out."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    left = list(opens)
    for _ in range(options.runs):
        for each in tuple(left):
            try:
                with each() as candidate:
                    found = measure(candidate)
                    say(
                        f"  {candidate.name}: "
                        + ", ".join(f"{name} {value:.3g}" for name, value in found.items())
                    )
                    for name, value in found.items():
                        values[name][candidate.name].append(value)
            except Missing as missing:
                say(f"  LEFT OUT: {missing}")
                left.remove(each)
    return values
