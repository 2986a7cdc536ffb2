"""The page about the architecture says what the imports say, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import architecture
from tests.project import ROOT, read

PAGE = "explanation/architecture.md"
SOURCE = ROOT / "src/orgrealtime"
FOLDERS = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"migrations"}
MODULES = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
FILES = sorted(set(re.findall(r"`([\w/]+\.(?:py|js))`", read(PAGE))))


def table(header: str) -> dict[str, list[str]]:
    """The rows below a header's first cell: first cell without backticks, then the other cells."""
    _, found, after = read(PAGE).partition(f"\n| {header} |")
    assert found
    lines = after.split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_picture_is_what_its_script_makes() -> None:
    assert architecture.PICTURE.read_text() == architecture.picture(), "run python docs/architecture.py"


@pytest.mark.parametrize(("text", "status"), [(None, 1), ("old", 1), (architecture.picture(), 0)])
def test_script_checks_whether_the_picture_is_out_of_date(
    text: str | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architecture, "PICTURE", tmp_path / "architecture.svg")
    if text is not None:
        architecture.PICTURE.write_text(text)
    assert architecture.main(["--check"]) == status


def test_picture_has_every_part_and_module_once() -> None:
    drawn = [name for box in architecture.boxes() for name in box.names]
    assert sorted(drawn) == sorted(FOLDERS | MODULES)


def test_arrows_of_the_picture_lead_downwards() -> None:
    assert all(each.row > box.row for box in architecture.boxes() for each in box.outgoing)


def test_page_has_a_row_for_every_part_with_what_it_imports() -> None:
    imports = architecture.imports()
    expected = {name: sorted(imports.get(name, ())) for name in FOLDERS}
    assert {name: re.findall(r"`(\w+)`", cells[1]) for name, cells in table("part").items()} == expected


def test_page_has_a_row_for_every_module() -> None:
    assert set(table("module")) == MODULES


@pytest.mark.parametrize("name", FILES)
def test_page_names_a_file_that_exists(name: str) -> None:
    assert (SOURCE / name).exists() or (ROOT / name).exists()


def test_change_needs_few_files() -> None:
    for change, (files, _) in table("change").items():
        needed = files.partition(";")[0]
        assert len(re.findall(r"`[\w/]+\.\w+`", needed)) <= 4, change


def test_page_names_what_there_is_to_look_for() -> None:
    code = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for change, (_, names) in table("change").items():
        for name in re.findall(r"`([\w.(]+)`", names):
            assert name.rpartition(".")[2] in code, change
