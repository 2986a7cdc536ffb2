"""`assert_no_gap` takes every continuous run of frames and no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.testing.continuity import assert_no_gap

Frame = dict[str, Any]
E, F = "e" * 8, "f" * 8


def event(seq: int, epoch: str = E) -> Frame:
    return {"type": "note", "cursor": f"{epoch}.{seq}", "created_at": "2026-11-23T08:57:00Z"}


def frame(type: str, seq: int, epoch: str = E, **members: Any) -> Frame:
    return {"type": type, "cursor": f"{epoch}.{seq}", **members}


@st.composite
def runs(draw: st.DrawFn) -> list[Frame]:
    """What a reader of everything may get: `welcome`, then events alone and in batches, and what lies between."""
    seq = draw(st.integers(0, 5))
    frames = [frame("welcome", seq)]
    for size in draw(st.lists(st.integers(0, 4), max_size=8)):
        new = [event(seq + number) for number in range(1, size + 1)]
        seq += size
        if draw(st.booleans()):
            frames += new
        elif new:
            frames.append(frame("batch", seq, events=new))
        between = draw(st.sampled_from(["pong", "cursor", "synced", "welcome", "error", "host"]))
        frames.append({"type": between} if between in {"error", "host"} else frame(between, seq))
    return frames


def flat(frames: list[Frame]) -> list[Frame]:
    """The frames with batches taken apart, so that any single event can be touched."""
    return [each for one in frames for each in [*one.get("events", []), one] if each["type"] != "batch"]


@given(runs())
def test_continuous_run_passes(frames: list[Frame]) -> None:
    assert_no_gap(frames)
    assert_no_gap(flat(frames))
    assert_no_gap(frames, sees_everything=False)


@given(runs(), st.data())
def test_missing_event_is_found(frames: list[Frame], data: st.DataObject) -> None:
    frames = flat(frames)
    places = [place for place, one in enumerate(frames) if one["type"] == "note"]
    if len(places) > 1:  # one that nothing comes after can't be missed
        missing = data.draw(st.sampled_from(places[:-1]))
        with pytest.raises(AssertionError, match=r"missing|doesn't go on"):
            assert_no_gap([*frames[:missing], *frames[missing + 1 :]])


@pytest.mark.parametrize("sees_everything", [True, False])
@given(frames=runs(), data=st.data())
def test_repeated_event_is_found(sees_everything: bool, frames: list[Frame], data: st.DataObject) -> None:
    frames = flat(frames)
    places = [place for place, one in enumerate(frames) if one["type"] == "note"]
    if places:
        first = data.draw(st.sampled_from(places))
        again = data.draw(st.integers(first + 1, len(frames)))
        with pytest.raises(AssertionError, match="twice or in the wrong order"):
            assert_no_gap([*frames[:again], frames[first], *frames[again:]], sees_everything=sees_everything)


@given(runs(), st.integers(0, 9))
def test_reset_may_go_anywhere(frames: list[Frame], seq: int) -> None:
    assert_no_gap([*frames, frame("reset", seq, F), event(seq + 1, F)])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([event(1), event(2, F)], r"frame 2 \('note', cursor 'f+\.2'\): another epoch than e+\.1's, without a reset"),
        ([event(1), event(3)], r"frame 2 .*: events are missing between e+\.1 and this one"),
        ([frame("welcome", 1), frame("synced", 2)], r"frame 2 .*: events are missing between e+\.1 and this cursor"),
        ([event(2), frame("pong", 1)], r"frame 2 .*: it goes back from e+\.2"),
        ([event(2), frame("welcome", 1)], r"frame 2 .*: the connection doesn't go on at e+\.2"),
        ([{"type": "synced", "cursor": "?"}], r"frame 1 .*: a cursor is the text"),
    ],
)  # fmt: skip
def test_message_says_what_is_wrong(frames: list[Frame], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_no_gap(frames)


def test_reader_that_does_not_see_everything_may_miss_numbers() -> None:
    assert_no_gap([frame("welcome", 0), event(3), frame("cursor", 7), event(9)], sees_everything=False)
