"""Ready frames are what a WebSocket library would have written."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from orgrealtime.delivery.transport import FRAMES, frame_writer, text_frame


@given(st.text())
@example("x" * 125)
@example("x" * 126)
@example("x" * 65_535)
@example("x" * 65_536)
@example("é" * 63)
def test_ready_frame_is_a_whole_unmasked_text_frame(text: str) -> None:
    assert text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {FRAMES: {}}}]
)
def test_server_without_the_extension_takes_no_ready_frames(scope: dict[str, object]) -> None:
    assert frame_writer(scope) is None
