"""The browser client's tables and numbers go with the server's. All else of it is tested by `tox run -e js`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgrealtime.conf import Settings
from orgrealtime.delivery.heartbeat import SILENT_HEARTBEATS, STREAM_PING_SECONDS
from orgrealtime.errors import OUTCOMES
from orgrealtime.protocol.wire import CLIENT_FRAMES, SERVER_FRAMES, SUBPROTOCOL

MODULES = Path(__file__).parent.parent / "src/orgrealtime/static/orgrealtime"
CLIENT = (MODULES / "client.js").read_text() + (MODULES / "fallbacks.js").read_text()
HEARTBEAT_SECONDS = Settings().HEARTBEAT_SECONDS
THROTTLED_SECONDS = 60.0  # how seldom browsers run the timers of a page in the background


def seconds(name: str) -> float:
    """Return one of the client's constants, which are in milliseconds."""
    found = re.search(rf"^const {name} = ([\d_]+);", CLIENT, re.MULTILINE)
    assert found, name
    return int(found[1]) / 1000


def test_client_has_the_table_of_close_codes() -> None:
    rows = re.findall(r'^  (\d+): \{ name: "(\w+)", retry: (true|false) \},$', CLIENT, re.MULTILINE)
    expected = [(str(row.code), row.name, "true" if row.retry else "false") for row in OUTCOMES.values()]
    assert rows == expected


def test_client_can_tell_a_code_from_the_http_status() -> None:
    assert {row.code - (row.http_status or row.code - 4000) for row in OUTCOMES.values()} == {4000}


def test_client_knows_the_types_of_all_frames() -> None:
    found = re.search(r"^const SERVER_FRAMES = \[(.+?)\];$", CLIENT, re.MULTILINE | re.DOTALL)
    assert found
    assert set(re.findall(r'"(\w+)"', found[1])) == SERVER_FRAMES


def test_client_sends_frames_that_the_server_knows() -> None:
    own = re.findall(r'stringify\(\{ type: "(\w+)"|\{"type":"(\w+)"\}', CLIENT)
    assert {type_ for pair in own for type_ in pair if type_} == CLIENT_FRAMES
    assert f'const SUBPROTOCOL = "{SUBPROTOCOL}";' in CLIENT


@pytest.mark.parametrize("heartbeat", [HEARTBEAT_SECONDS, 5.0, 60.0])
def test_client_pings_twice_before_the_server_takes_it_for_gone(heartbeat: float) -> None:
    assert "Math.min((frame.heartbeat || Infinity) * 1000, PING_INTERVAL)" in CLIENT
    interval = min(heartbeat, seconds("PING_INTERVAL"))
    assert 2 * interval <= SILENT_HEARTBEATS * heartbeat


def test_client_in_the_background_pings_before_the_server_takes_it_for_gone() -> None:
    assert THROTTLED_SECONDS < SILENT_HEARTBEATS * HEARTBEAT_SECONDS


def test_client_gives_a_dead_connection_up_before_the_server_does() -> None:
    noticed = seconds("PING_INTERVAL") + seconds("PONG_TIMEOUT")
    assert noticed < SILENT_HEARTBEATS * HEARTBEAT_SECONDS


def test_client_gives_a_stream_up_only_when_two_pongs_are_missing() -> None:
    assert seconds("STREAM_SILENCE_TIMEOUT") >= 2 * min(HEARTBEAT_SECONDS, STREAM_PING_SECONDS)
