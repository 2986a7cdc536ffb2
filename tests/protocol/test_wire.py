"""The frames of the protocol as text, and what clients may send."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.errors import CloseCode, MessageError
from orgrealtime.protocol import wire
from tests.protocol.test_payloads import payloads

CURSOR = "0a1b2c3d.7"
NOON = datetime.datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=datetime.UTC)


def encode_event(payload: str, actor: int | str | None = 3) -> str:
    return wire.encode_event("task_event", CURSOR, NOON, actor, payload)


# Events


def test_event_has_the_payloads_members_beside_its_own() -> None:
    assert json.loads(encode_event('{"task_id":123,"details":{"from":"todo","to":"done"}}')) == {
        "type": "task_event",
        "cursor": CURSOR,
        "created_at": "2026-11-01T12:00:00.250000Z",
        "actor": 3,
        "task_id": 123,
        "details": {"from": "todo", "to": "done"},
    }


@given(payloads)
def test_event_carries_any_payload_unchanged(payload: dict[str, Any]) -> None:
    frame = json.loads(encode_event(json.dumps(payload)))
    assert {key: frame[key] for key in payload} == payload


@given(payloads)
def test_event_begins_with_its_type(payload: dict[str, Any]) -> None:
    assert encode_event(json.dumps(payload)).startswith('{"type":"task_event","cursor":')


@pytest.mark.parametrize("actor", [None, 3, "0b39f1f8-55d5-4bd5-8f3c-3d4cf0a3a3a5"])
def test_event_names_its_actor_by_primary_key(actor: int | str | None) -> None:
    assert json.loads(encode_event("{}", actor))["actor"] == actor


def test_members_of_a_stored_payload_dont_replace_the_frames_own() -> None:
    frame = json.loads(encode_event('{"type":"reset","cursor":"x","created_at":1,"actor":9,"a":1}'))
    assert (frame["type"], frame["cursor"], frame["actor"], frame["a"]) == ("task_event", CURSOR, 3, 1)


def test_numbers_beyond_what_python_reads_pass_as_they_are() -> None:
    assert f'"n":{"9" * 5000}' in encode_event(f'{{"n":{"9" * 5000}}}')


@pytest.mark.parametrize(
    "payload", ["", "[1]", '"text"', "null", "1", "{", '{"a":}', "{'a':1}", '{"a":NaN}', "\x00"]
)
def test_poison_payload_raises_value_error(payload: str) -> None:
    with pytest.raises(ValueError, match=r"Expected|truncated|malformed"):
        encode_event(payload)


# Other frames


def test_batch_carries_encoded_events() -> None:
    events = [encode_event('{"n":1}'), encode_event('{"n":2}')]
    assert json.loads(wire.batch(events, CURSOR)) == {
        "type": "batch",
        "events": [json.loads(event) for event in events],
        "cursor": CURSOR,
    }


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (wire.cursor(CURSOR), {"type": "cursor", "cursor": CURSOR}),
        (wire.synced(CURSOR), {"type": "synced", "cursor": CURSOR}),
        (wire.pong(CURSOR), {"type": "pong", "cursor": CURSOR}),
        (wire.reset(CURSOR, "epoch"), {"type": "reset", "cursor": CURSOR, "reason": "epoch"}),
        (wire.error("oops", 'say "x"'), {"type": "error", "error": {"code": "oops", "message": 'say "x"'}}),
        (
            wire.error("too_long", "no", "m-1", limit=3, length=4),
            {"type": "error", "ref": "m-1", "error": {"limit": 3, "length": 4, "code": "too_long", "message": "no"}},
        ),
        (wire.error("oops", "no", ref=1), {"type": "error", "error": {"ref": 1, "code": "oops", "message": "no"}}),
    ],
)  # fmt: skip
def test_frame_is_as_the_protocol_says(text: str, frame: dict[str, Any]) -> None:
    assert json.loads(text) == frame


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ('{"ref": "m-1"}', "m-1"),
        ('{"type": "message", "body": [{}], "ref": 7}', 7),
        ('{"ref": 0}', 0),
        ('{"ref": ""}', ""),
        ('{"ref": 0.5}', 0.5),
        (json.dumps({"ref": "x" * 100}), "x" * 100),
        (json.dumps({"ref": "x" * 101}), None),
        ('{"ref": ' + "9" * 101 + "}", None),
        ('{"ref": ' + "9" * 5000 + "}", None),
        ('{"ref": 1e999}', None),
        ('{"ref": true}', None),
        ('{"ref": {"a": 1}}', None),
        ('{"ref": null}', None),
        ("{}", None),
        ("[1]", None),
        ("{", None),
        ("", None),
        ('{"ref": ' + "[" * 10_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_ref_of_a_message_is_what_an_answer_may_repeat(text: str, ref: wire.Ref) -> None:
    found = wire.read_ref(text)
    assert (found, type(found)) == (ref, type(ref))


def test_refusal_names_the_code_by_its_label() -> None:
    body = json.loads(wire.refusal(CloseCode.FORBIDDEN, "no"))
    assert body == {"error": {"code": "forbidden", "message": "no"}}


# What clients send


def read(text: str) -> Any:
    """Read a message that is to be carried out."""
    wire.read_type(text)
    return wire.read_message(text)


@given(payloads, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=100))
def test_message_is_read_as_it_was_written(members: dict[str, Any], kind: str) -> None:
    message = {**members, "type": kind}
    assert wire.read_message(json.dumps(message)) == message
    if kind:
        assert wire.read_type(json.dumps(message)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "{",
        "[]",
        "[1,2]",
        "1",
        "null",
        "true",
        '"ping"',
        "{}",
        '{"type":1}',
        '{"type":null}',
        '{"type":["ping"]}',
        '{"type":"ping"} x',
        '{"type":"ping",}',
        "{'type':'ping'}",
        '{"type":"' + "x" * 101 + '"}',
        '{"type":"ping","n":1e400}',
        '{"type":"ping","n":NaN}',
        '{"type":"ping","n":Infinity}',
        '{"type":"ping","n":-Infinity}',
        '{"type":"ping","n":9007199254740992}',
        '{"type":"ping","n":' + "9" * 5000 + "}",
        '{"type":"ping","n":-' + "9" * 100_000 + "}",
        '{"type":"ping","s":"\\u0000"}',
        '{"type":"ping","s":"\\ud800"}',
        '{"type":"ping","s":"\\udc00\\ud800"}',
        '{"type":"ping","s":"\ud800"}',
        '{"type":"ping","\\u0000":1}',
        '{"type":"ping","deep":' + "[" * 40 + "]" * 40 + "}",
        '{"type":"ping","deep":' + "[" * 5000 + "]" * 5000 + "}",
        '{"type":"ping","deep":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
        "[" * 100_000,
        '\ufeff{"type":"ping"}',
        '{"type":"ping"}\x00',
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_isnt_a_message_is_refused_with_a_short_error(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        read(text)
    assert caught.value.code == "bad_request"
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(MessageError):
        read(text)


@pytest.mark.parametrize("text", ["é", "\u2028", "😀", "<img onerror>", "\r\n\x1b[31m", "\ufffe"])
def test_other_unicode_comes_back_exactly(text: str) -> None:
    assert wire.read_message(json.dumps({"type": "x", "s": text}))["s"] == text


@given(st.dictionaries(st.sampled_from(["type", "t\u0079pe", "Type", "a"]), st.text(max_size=3)), st.data())
def test_type_is_that_of_the_members(members: dict[str, str], data: st.DataObject) -> None:
    """Also where keys come twice or are written with escapes: the last counts."""
    pairs = data.draw(st.lists(st.sampled_from(list(members.items()) or [("a", "b")])))
    written = [
        (key.replace("y", data.draw(st.sampled_from(["y", "\\u0079"]))), value) for key, value in pairs
    ]
    text = "{" + ",".join(f'"{key}":{json.dumps(value)}' for key, value in written) + "}"
    with contextlib.suppress(MessageError):
        assert wire.read_type(text) == wire.read_message(text)["type"]


def test_type_is_read_without_looking_at_the_other_members() -> None:
    for member in ("9007199254740992", "[" * 40 + "]" * 40, '"\\u0000"', "1e400"):
        assert wire.read_type(f'{{"type":"ping","n":{member}}}') == "ping"


@pytest.mark.parametrize("cursor", ["1", "[]", "{}", "true", "[" * 100 + "]" * 100])
def test_cursor_of_an_ack_is_a_text(cursor: str) -> None:
    with pytest.raises(MessageError, match=r"Expected `str | null`.*cursor"):
        wire.read_ack(f'{{"type":"ack","cursor":{cursor}}}')


def test_cursor_of_an_ack_is_read() -> None:
    assert wire.read_ack(f'{{"type":"ack","cursor":"{CURSOR}"}}') == CURSOR
    assert wire.read_ack('{"type":"ack"}') is None
