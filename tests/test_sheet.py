"""The example's CSV: every row once, in order, and no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io

import pytest

from example_project.exports import sheet


def written(rows: list[sheet.Row], steps: int = 3) -> list[list[str]]:
    content = io.BytesIO()
    assert list(sheet.write(content, rows, steps)) == list(range(1, steps + 1))
    return list(csv.reader(io.StringIO(content.getvalue().decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100])
def test_sheet_has_the_header_and_every_row_once_in_order(count: int) -> None:
    rows = [(f"task {number}", "To do", "") for number in range(count)]
    assert written(rows) == [list(sheet.HEADER), *map(list, rows)]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=cmd|" /C calc"!A0']
)
def test_cell_that_a_spreadsheet_would_compute_is_made_text(text: str) -> None:
    assert written([(text,)])[1] == [f"'{text}"]


@pytest.mark.parametrize("text", ["a=1", "Überweisung, €", 'say "hi"', "two\nlines", "", "1 - 1"])
def test_other_cell_stays_as_it_is(text: str) -> None:
    assert written([(text, "x")])[1] == [text, "x"]


def test_cell_stays_one_to_a_spreadsheet_that_separates_by_semicolons() -> None:
    content = io.BytesIO()
    list(sheet.write(content, [("plain;=1+1",)], 1))
    assert list(csv.reader(io.StringIO(content.getvalue().decode("utf-8-sig")), delimiter=";"))[1] == [
        "plain;=1+1"
    ]
