"""The browser client's table of close codes is the server's. Everything else of it is tested by `tox run -e js`."""

from __future__ import annotations

import re
from pathlib import Path

from orgrealtime.errors import OUTCOMES

CLIENT = Path(__file__).parent.parent / "src/orgrealtime/static/orgrealtime/client.js"


def test_client_has_the_table_of_close_codes() -> None:
    rows = re.findall(
        r'^  (\d+): \{ name: "(\w+)", retry: (true|false) \},$', CLIENT.read_text(), re.MULTILINE
    )
    expected = [(str(row.code), row.name, "true" if row.retry else "false") for row in OUTCOMES.values()]
    assert rows == expected


def test_client_can_tell_a_code_from_the_http_status() -> None:
    assert {row.code - (row.http_status or row.code - 4000) for row in OUTCOMES.values()} == {4000}
