"""The page about the architecture says what the imports say, and names files that exist."""

from __future__ import annotations

import ast
import io
import re
import tokenize
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


# -------------------------------------------------------------------------------------------------- how large it is


def lines_of_code(path: Path) -> dict[str, int]:
    """The lines of a module and of each of its classes, without comments, docstrings and empty lines."""
    source = path.read_text()
    tree = ast.parse(source)
    passed_over = {
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    }  # fmt: skip
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {
        line
        for token in tokens
        if token.type not in passed_over
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None and first is not None:
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {node.name: len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1))) for node in classes}
    return {"the module": len(lines), **found}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_and_its_classes_are_small_enough_to_read(path: Path) -> None:
    found = lines_of_code(path)
    assert found.pop("the module") <= 400
    assert max(found.values(), default=0) <= 250, found


@pytest.mark.parametrize(("name", "most"), [("delivery/hub.py", 10), ("consumers.py", 15)])
def test_module_in_the_middle_imports_few_others(name: str, most: int) -> None:
    imported = re.findall(
        r"^from (orgrealtime[\w.]*) import (\w+)", (SOURCE / name).read_text(), flags=re.MULTILINE
    )
    modules = {f"{package}.{first}" if package == "orgrealtime" else package for package, first in imported}
    assert len(modules) <= most, sorted(modules)
