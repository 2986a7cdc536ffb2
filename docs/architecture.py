"""Make docs/images/architecture.svg: the parts of the package, from its imports and the rows of the import contract.

`python docs/architecture.py`, in an environment with the dependency group `test`. With `--check` nothing is written,
and the status is 1 if the picture is out of date.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/architecture.svg"
PACKAGE = "orgrealtime"
CONTRACT = "Imports go downwards only"

# The columns. All that is in none of these sets is a part if it is a folder, else a module that hosts import.
DJANGO = {"admin", "apps", "checks", "conf", "management", "models", "receivers", "signals", "templatetags"}
FOLDERS_FOR_HOSTS = {"testing"}
PARTS_OF_ONE_FILE = {"overrides"}
COLUMNS = {"django": "Django's furniture", "part": "parts", "host": "what hosts import"}

WIDTH = 440
MARGIN = 4
GUTTER = 24
BOX_WIDTH = (WIDTH - 2 * MARGIN - 2 * GUTTER) / 3
LINE = 16
PADDING = 9
GAP = 30  # between two rows
HEADER = 28
CHARS = 17  # of a line in a box
PORT_STEP = 13  # between two arrows at one side of a box
ARROW = 7
LANE_SHIFTS = (0, -6, 6, -3, 3)  # from the middle of a gutter

STYLE = """
    text { font-family: system-ui, sans-serif; font-size: 13px; fill: #fff; text-anchor: middle; }
    .header { font-weight: 600; font-size: 12px; fill: #7a7a80; }
    .part rect { fill: #2b6a99; } .part text { font-weight: 600; font-size: 15px; }
    .host rect { fill: #37734f; }
    .django rect { fill: #66666f; }
    path { fill: none; stroke: #8c8c94; stroke-width: 1.5; } marker path { fill: #8c8c94; stroke: none; }
"""


@dataclass(eq=False)
class Box:
    """The modules of one kind in one row of the contract."""

    kind: str
    row: int
    names: list[str]
    top: float = 0.0
    outgoing: list[Box] = field(default_factory=list)
    incoming: list[Box] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The names, as many to a line as it has room for."""
        lines = [""]
        for name in self.names:
            longer = f"{lines[-1]} {name}".strip()
            if len(longer) <= CHARS:
                lines[-1] = longer
            else:
                lines.append(name)
        return lines

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 2 * PADDING

    @property
    def middle(self) -> float:
        return MARGIN + BOX_WIDTH / 2 + list(COLUMNS).index(self.kind) * (BOX_WIDTH + GUTTER)

    def start_to(self, other: Box) -> tuple[float, float]:
        """Where the arrow to another box leaves this one."""
        return self._port(self.outgoing, other), self.top + self.height

    def end_from(self, other: Box) -> tuple[float, float]:
        """Where the arrow from another box arrives."""
        return self._port(self.incoming, other), self.top

    def _port(self, others: list[Box], other: Box) -> float:
        places = sorted(others, key=lambda box: (box.middle, -box.row))
        return self.middle + PORT_STEP * (places.index(other) - (len(places) - 1) / 2)


def imports() -> dict[str, set[str]]:
    """What each folder and module at the top of the package imports of the others."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        importer = _top(module)
        for imported in map(_top, graph.find_modules_directly_imported_by(module)):
            if importer and imported and importer != imported:
                found.setdefault(importer, set()).add(imported)
    return found


def _top(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def rows() -> list[list[str]]:
    """The rows of the import contract, from top to bottom."""
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in given if each["name"] == CONTRACT)
    return [row.replace("|", " ").replace(":", " ").split() for row in contract["layers"]]


def kind_of(name: str) -> str:
    """The column of a folder or module."""
    if name in DJANGO:
        return "django"
    is_folder = (ROOT / "src" / PACKAGE / name).is_dir() and name not in FOLDERS_FOR_HOSTS
    return "part" if is_folder or name in PARTS_OF_ONE_FILE else "host"


def boxes() -> list[Box]:
    """The boxes with their arrows, but for arrows that other arrows make already: there is a longer way."""
    made = [
        Box(kind, number, names)
        for number, row in enumerate(rows())
        for kind in COLUMNS
        if (names := [name for name in row if kind_of(name) == kind])
    ]
    home = {name: box for box in made for name in box.names}
    direct: dict[Box, set[Box]] = {box: set() for box in made}
    for importer, imported in imports().items():
        if importer in home:  # migrations are in no row
            direct[home[importer]] |= {home[name] for name in imported} - {home[importer]}
    reached: dict[Box, set[Box]] = {}
    for box in reversed(made):  # from the lowest row: what is imported is there already
        reached[box] = direct[box].union(*(reached[each] for each in direct[box]))
    for box in made:
        for each in sorted(direct[box], key=made.index):
            if not any(each in reached[other] for other in direct[box]):
                box.outgoing.append(each)
                each.incoming.append(box)
    return made


def picture() -> str:
    """The text of the SVG."""
    made = boxes()
    top = float(HEADER)
    for number in range(made[-1].row + 1):
        row = [box for box in made if box.row == number]
        height = max(box.height for box in row)
        for box in row:
            box.top = top + (height - box.height) / 2
        top += height + GAP
    height = top - GAP + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-labelledby="title description">',
        '  <title id="title">The parts of orgrealtime and what they import</title>',
        f'  <desc id="description">{escape(" ".join(_sentences(made)))}</desc>',
        f"  <style>{STYLE}  </style>",
        f'  <defs><marker id="arrow" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="{ARROW}" markerHeight="{ARROW}" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for kind, title in COLUMNS.items():
        x = Box(kind, 0, []).middle
        lines.append(f'  <text class="header" x="{x:g}" y="17">{escape(title)}</text>')
    taken: list[_Lane] = []
    for box in made:
        ways = [_way(box, target, made, taken) for target in box.outgoing]
        lines += [f'  <path d="{way}" marker-end="url(#arrow)"/>' for way in ways]
    for box in made:
        lines += _drawn(box)
    return "\n".join([*lines, "</svg>", ""])


def _sentences(made: list[Box]) -> Iterator[str]:
    yield "From top to bottom; whatever is imported stands further down."
    for box in made:
        if box.outgoing:
            imported = "; ".join(", ".join(each.names) for each in box.outgoing)
            yield f"{', '.join(box.names)} → {imported}."


def _drawn(box: Box) -> Iterator[str]:
    left = box.middle - BOX_WIDTH / 2
    yield f'  <g class="{box.kind}">'
    yield (f'    <rect x="{left:g}" y="{box.top:g}" width="{BOX_WIDTH:g}" height="{box.height:g}" rx="6"/>')
    for number, line in enumerate(box.lines, 1):
        yield f'    <text x="{box.middle:g}" y="{box.top + PADDING + number * LINE - 4:g}">{line}</text>'
    yield "  </g>"


class _Lane(NamedTuple):
    """A place where an arrow goes straight down."""

    x: float
    top: float
    bottom: float

    def is_taken(self, boxes: list[Box], lanes: list[_Lane]) -> bool:
        """Tell whether a box or another arrow is in the way."""
        return any(abs(self.x - box.middle) < BOX_WIDTH / 2 for box in boxes) or any(
            abs(self.x - lane.x) < 2 and self.top <= lane.bottom and lane.top <= self.bottom for lane in lanes
        )


def _way(box: Box, target: Box, made: list[Box], taken: list[_Lane]) -> str:
    """The path of an arrow: into a lane that is free between the two rows, down there, and to the target."""
    x, y = box.start_to(target)
    end_x, end_y = target.end_from(box)
    end_y -= ARROW / 2 + 1
    between = [each for each in made if box.row < each.row < target.row]
    is_straight = box.kind == target.kind and all(each.kind != box.kind for each in between)
    x = end_x if is_straight else x
    if not between:
        return f"M{x:g} {y:g}{_bend(x, y, end_x, end_y)}"
    down = min(each.top for each in between) - 2
    up = max(each.top + each.height for each in between) + 2
    lanes = (_Lane(lane, down, up) for lane in _lanes(x, end_x))
    lane = next(each for each in lanes if not each.is_taken(between, taken))
    taken.append(lane)
    return f"M{x:g} {y:g}{_bend(x, y, lane.x, down)}V{up:g}{_bend(lane.x, up, end_x, end_y)}"


def _lanes(start: float, end: float) -> Iterator[float]:
    """The places where an arrow may go down: beneath its beginning, above its end, or between two columns."""
    yield from (end, start)
    gutters = [MARGIN + number * (BOX_WIDTH + GUTTER) - GUTTER / 2 for number in (1, 2)]
    gutters = [gutter + shift for gutter in gutters for shift in LANE_SHIFTS]
    yield from sorted(gutters, key=lambda lane: round(abs(lane - start) + abs(lane - end)))


def _bend(x: float, y: float, end_x: float, end_y: float) -> str:
    if x == end_x:
        return f"V{end_y:g}"
    half = (end_y - y) / 2
    return f"C{x:g} {y + half:g} {end_x:g} {end_y - half:g} {end_x:g} {end_y:g}"


def main(arguments: list[str]) -> int:
    made = picture()
    if arguments == ["--check"]:
        return int(not PICTURE.exists() or PICTURE.read_text() != made)
    PICTURE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))  # this tree, whatever is installed
    sys.exit(main(sys.argv[1:]))
