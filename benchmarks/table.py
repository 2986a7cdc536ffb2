"""What was measured, as one Markdown table and one plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = "orgrealtime"


@dataclass(frozen=True)
class Figure:
    """One number to reach, of us and of each peer: the medians of the runs.

    `goals` are ratios to peers, ours over theirs: with at most 0.04 of Channels' time one is 25 times better.
    `rate` says that more is better.
    """

    id: str
    name: str
    unit: str
    values: Mapping[str, Sequence[float]]
    goals: Mapping[str, float]
    rate: bool = False

    def median(self, candidate: str) -> float | None:
        values = self.values.get(candidate)
        return statistics.median(values) if values else None


def verdicts(figure: Figure, ours: str) -> Iterable[str]:
    """For each goal that can be judged: the ratio, what it was to be, and whether it is."""
    mine = figure.median(ours)
    for peer, goal in figure.goals.items():
        theirs = figure.median(peer)
        if mine is None or not theirs:
            continue
        ratio = mine / theirs
        is_reached = ratio >= goal if figure.rate else ratio <= goal
        sign = "≥" if figure.rate else "≤"
        yield f"{ratio:.2f} x {peer} ({sign} {goal:g}: {'yes' if is_reached else 'no'})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def markdown(figures: Sequence[Figure]) -> str:
    """Rows of figures; each candidate with its median, and the spread of its runs."""
    lines = ["| | figure | measured (median; least to most) | ours to theirs |", "|---|---|---|---|"]
    for figure in figures:
        cells = [
            f"{name}: {number(statistics.median(values))} {figure.unit}"
            + (f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else "")
            for name, values in figure.values.items()
            if values
        ]
        ratios = [
            f"{name}: {verdict}" if name != OURS else verdict
            for name in figure.values
            if name.startswith(OURS)
            for verdict in verdicts(figure, name)
        ]
        lines.append(f"| {figure.id} | {figure.name} | {'<br>'.join(cells)} | {'<br>'.join(ratios) or '-'} |")
    return "\n".join(lines)


def plot(figures: Sequence[Figure], path: Path) -> None:
    """A bar for each candidate and figure, on logarithmic scales, as an image."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [
        figure for figure in figures if len(figure.values) > 1 and any(map(figure.median, figure.values))
    ]
    if not shown:
        return
    fig, axes = plt.subplots(len(shown), 1, figsize=(9, 1.2 + 1.6 * len(shown)), squeeze=False)
    for axis, figure in zip(axes[:, 0], shown, strict=True):
        medians = {name: figure.median(name) or 0.0 for name in reversed(list(figure.values))}
        colors = ["#c2410c" if name.startswith(OURS) else "#94a3b8" for name in medians]
        axis.barh(list(medians), list(medians.values()), color=colors)
        axis.set_xscale("log")
        axis.set_title(f"{figure.id}  {figure.name}, {figure.unit}", loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=120)
