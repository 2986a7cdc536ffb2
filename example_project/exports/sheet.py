"""Tasks as CSV that spreadsheets open as text. Pure: knows neither Django nor the database."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import IO

Row = tuple[str, ...]

HEADER = ("Task", "Status", "Last change (UTC)")

# A cell that begins with one of these is a formula to a spreadsheet, whoever wrote it.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def write(content: IO[bytes], rows: Sequence[Row], steps: int) -> Iterator[int]:
    """Write header and rows in this many steps, and yield the number of each step that is done."""
    # Excel takes a file without this mark for one in the local code page.
    text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="", write_through=True)
    # All in quotes: a spreadsheet that separates by semicolons would begin another cell within one.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER)
    for step in range(1, steps + 1):
        part = rows[len(rows) * (step - 1) // steps : len(rows) * step // steps]
        writer.writerows([safe_cell(cell) for cell in row] for row in part)
        yield step
    text.detach()
