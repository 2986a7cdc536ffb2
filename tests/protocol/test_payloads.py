"""What a payload may hold, and that the databases give back exactly that."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime import publish, stream
from orgrealtime.errors import PayloadError, PayloadTooLarge
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.payloads import (
    MAX_DEPTH,
    MAX_SAFE_INTEGER,
    RESERVED_KEYS,
    check_least_size,
    encode_payload,
)
from tests.host.models import Organization

LIMIT = 65_536

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
keys = text.filter(lambda key: key not in RESERVED_KEYS and key != "url" and not key.endswith("_url"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(keys, values, max_size=5)


def encode(payload: object, max_bytes: int = LIMIT, url_hosts: tuple[str, ...] = ()) -> str:
    return encode_payload(payload, max_bytes=max_bytes, url_hosts=url_hosts)


def as_browsers_do(digits: str) -> float:
    # PostgreSQL writes the float 1e20 as 100000000000000000000, which is the same number to a browser.
    return int(digits) if abs(int(digits)) <= MAX_SAFE_INTEGER else float(digits)


def nested(levels: int) -> dict[str, Any]:
    """An object whose innermost value is `levels` deep, counted with the object itself."""
    value: Any = {}
    for _ in range(levels - 2):
        value = [value]
    return {"a": value}


# What is accepted


@given(payloads)
def test_plain_json_is_accepted_and_encoded_as_it_is(payload: dict[str, Any]) -> None:
    assert json.loads(encode(payload)) == payload


@pytest.mark.slow
@pytest.mark.django_db(databases=["default", "lite"])
@pytest.mark.parametrize("alias", ["default", "lite"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=payloads)
def test_a_reader_gets_exactly_what_was_published(alias: str, payload: dict[str, Any]) -> None:
    slug = uuid.uuid4().hex
    organization = Organization.objects.using(alias).create(name=slug, slug=slug)
    start = Cursor.parse(stream.position(organization, using=alias).cursor)
    publish(organization, "note", payload, using=alias)
    (event,) = stream.read(organization.pk, start, using=alias).events
    frame = json.loads(event.text, parse_int=as_browsers_do)
    assert {key: value for key, value in frame.items() if key not in RESERVED_KEYS} == payload


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Share(float):
    """Numbers of numerical libraries are floats like this one."""


class Count(int):
    """An integer with a class of its own."""


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (mark_safe("<b>bold</b>"), "<b>bold</b>"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Share(0.5), 0.5),
        (Count(7), 7),
        (Point(1, 2), [1, 2]),
        ((1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_of_plain_values_are_encoded_as_plain_values(value: object, stored: object) -> None:
    assert json.loads(encode({"value": value})) == {"value": stored}


def test_the_largest_safe_integers_are_accepted() -> None:
    assert json.loads(encode({"most": MAX_SAFE_INTEGER, "least": -MAX_SAFE_INTEGER})) == {
        "most": 2**53 - 1,
        "least": 1 - 2**53,
    }


def test_nesting_up_to_the_limit_is_accepted() -> None:
    assert json.loads(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


# What is refused


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def circular_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def circular_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        Share("nan"),
        2**53,
        -(2**53),
        2**70,
        10**5000,
        "a\x00b",
        "\ud800",
        "\udfff tail",
        decimal.Decimal("1.5"),
        {1, 2},
        frozenset(),
        b"bytes",
        datetime.date(2026, 11, 1),
        uuid.UUID(int=1),
        gettext_lazy("lazy"),
        1 + 2j,
        object(),
        Unprintable(),
        iter([1]),
        circular_list(),
        circular_dict(),
        {1: "key"},
        {None: "key"},
        {("a",): "key"},
        {"a\x00": 1},
        {"\ud800": 1},
        {"deep": {"deeper": [float("nan")]}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_isnt_portable_json_is_refused(value: object) -> None:
    with pytest.raises(PayloadError):
        encode({"value": value})


@pytest.mark.parametrize("payload", [None, [], "text", 1, [("a", 1)], {1, 2}])
def test_what_isnt_an_object_is_refused_by_its_kind(payload: object) -> None:
    with pytest.raises(PayloadError, match=type(payload).__name__):
        encode(payload)


@pytest.mark.parametrize("key", sorted(RESERVED_KEYS))
def test_a_reserved_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(PayloadError, match=repr(key)):
        encode({key: 1})


def test_a_reserved_key_further_in_is_accepted() -> None:
    assert json.loads(encode({"task": {"type": "bug"}})) == {"task": {"type": "bug"}}


def test_nesting_beyond_the_limit_is_refused() -> None:
    with pytest.raises(PayloadError, match=f"deeper than {MAX_DEPTH}"):
        encode(nested(MAX_DEPTH + 1))


def test_the_error_names_the_place() -> None:
    with pytest.raises(PayloadError, match=r"\$\.details\.tags\[1\] is a set"):
        encode({"details": {"tags": ["a", {"b"}]}})


def test_the_error_stays_short_for_long_keys() -> None:
    with pytest.raises(PayloadError) as caught:
        encode({"k" * 10_000: {1}})
    assert len(str(caught.value)) < 300


# How large it may be


@pytest.mark.parametrize("filling", ["x", "é", "漢", "😀", '"', "\n", "\x7f", "\u2028"])
def test_the_limit_counts_bytes_of_utf8(filling: str) -> None:
    payload = {"text": filling * 20}
    size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
    encode(payload, max_bytes=size + 1)
    encode(payload, max_bytes=size)
    with pytest.raises(PayloadTooLarge) as caught:
        encode(payload, max_bytes=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


class Looked:
    """Counts how often its payloads are looked at: each list in them once for each place where it stands."""

    def __init__(self) -> None:
        self.times = 0

    def value(self, inside: list[Any]) -> list[Any]:
        looked = self

        class Watched(list[Any]):
            def __iter__(self) -> Iterator[Any]:
                looked.times += 1
                return super().__iter__()

        return Watched(inside)

    def shared(self, levels: int) -> Any:
        """A value of 8**levels values, each list of which is one and the same in eight places."""
        value: Any = 1
        for _ in range(levels):
            value = self.value([value] * 8)
        return value


def test_shared_values_cost_no_more_than_the_limit_allows() -> None:
    looked = Looked()
    with pytest.raises(PayloadTooLarge) as caught:
        encode({"a": looked.shared(20)})
    assert looked.times < LIMIT // 8
    assert caught.value.size <= LIMIT + 9
    assert (
        str(caught.value)
        == f"the payload takes at least {caught.value.size} bytes as JSON; at most {LIMIT} are allowed"
    )


@pytest.mark.parametrize(
    "value",
    [[1] * 1_250_000, dict.fromkeys(map(str, range(100_000))), "x" * 5_000_000],
    ids=["list", "dict", "text"],
)
def test_what_is_too_large_at_first_sight_is_not_looked_into(value: Any) -> None:
    class Unread(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError

    with pytest.raises(PayloadTooLarge):
        encode({"a": Unread(value) if isinstance(value, list) else value})


@given(payloads)
def test_no_payload_within_the_limit_is_too_large(payload: dict[str, Any]) -> None:
    """What is counted on the way is never more than the text has."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    digits = sum(len(f"{decimal.Decimal(each):f}") - len(each) for each in numbers(text))
    encode(payload, max_bytes=len(text.encode()) + digits)


def numbers(text: str) -> list[str]:
    """The numbers with an exponent in a JSON text."""
    found: list[str] = []
    json.loads(text, parse_float=lambda digits: found.append(digits) if "e" in digits else None)
    return found


# Shapes of classes


@dataclasses.dataclass(repr=False)  # that of a test which fails would have no end
class Node:
    text: str = ""
    children: list[Any] = dataclasses.field(default_factory=list)
    one: Any = None


class StructNode(msgspec.Struct, omit_defaults=True):
    retries: int = 3
    text: str = "pending"
    children: list[Any] = []
    one: Any = None

    __repr__ = object.__repr__


@pytest.mark.parametrize("cls", [Node, StructNode])
def test_classes_are_looked_into_no_further_than_the_limit_allows(cls: Any) -> None:
    in_lists, in_fields = cls(), [cls()]
    for _ in range(14):
        in_lists, in_fields = cls(children=[in_lists] * 8), [cls(one=in_fields)] * 8
    for value in (in_lists, cls(one=in_fields), {"a": in_lists}, cls(children=["x" * LIMIT])):
        with pytest.raises(PayloadTooLarge):
            check_least_size(value, LIMIT)


@pytest.mark.parametrize("cls", [Node, StructNode])
def test_classes_that_refer_to_themselves_are_too_deep(cls: Any) -> None:
    circle = cls()
    circle.one = circle
    with pytest.raises(PayloadError, match=f"deeper than {MAX_DEPTH}"):
        check_least_size(circle, LIMIT)


@given(payloads)
def test_least_size_is_no_more_than_the_size(payload: dict[str, Any]) -> None:
    check_least_size(payload, len(encode(payload).encode()))
    check_least_size([StructNode()] * 10, len(msgspec.json.encode([StructNode()] * 10)))


# URLs

HOSTS = ("files.example.com", "CDN.example.com")


@pytest.mark.parametrize(
    "url",
    [
        "/exports/1.csv",
        "/",
        "/a?b=c&d=%09#e",
        "/search?next=https://evil.example",
        "/übersicht/😀",
        "https://files.example.com/1.csv",
        "https://cdn.example.com/1.csv",
        "https://FILES.example.com/1.csv",
        "https://files.example.com",
        "https://files.example.com:8443/1.csv?a=b#c",
        "https://files.example.com/@evil.example",
        None,
        "",
    ],
)
def test_a_path_here_or_an_https_url_on_a_listed_host_is_accepted(url: str | None) -> None:
    assert json.loads(encode({"download_url": url}, url_hosts=HOSTS)) == {"download_url": url}


@pytest.mark.parametrize(
    "url",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " /path",
        "/a b",
        "/a\u2028b",
        "/a\x7fb",
        "path",
        "?query",
        "#fragment",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "blob:https://files.example.com/1",
        "http://files.example.com/1.csv",
        "ftp://files.example.com/1.csv",
        "https://evil.example/1.csv",
        "https://files.example.com.evil.example/",
        "https://evil.example\\@files.example.com/",
        "https://user@files.example.com/",
        "https://user:secret@files.example.com/",
        "https://files.example.com@evil.example/",
        "https://files.example.com:99999/",
        "https://files.example.com:abc/",
        "https://files.example.com\t/1.csv",
        "https://files.example.com/\n",
        "https:files.example.com",
        "https:/files.example.com",
        "https:///files.example.com",
        "https://",
        "https://[files.example.com/",
        "https://files.example.com./",
        "https://files。example。com/",
        1,
        ["/exports/1.csv"],
        {"href": "/exports/1.csv"},
    ],
)
def test_any_other_url_is_refused(url: object) -> None:
    with pytest.raises(PayloadError, match=r"\$\.download_url"):
        encode({"download_url": url}, url_hosts=HOSTS)


@pytest.mark.parametrize("key", ["url", "avatar_url", "_url"])
def test_every_key_that_says_url_is_checked_wherever_it_stands(key: str) -> None:
    with pytest.raises(PayloadError, match="URL_HOSTS"):
        encode({"rows": [{"cell": {key: "javascript:alert(1)"}}]})


def test_no_host_is_allowed_unless_listed() -> None:
    with pytest.raises(PayloadError, match="URL_HOSTS"):
        encode({"download_url": "https://files.example.com/1.csv"})


@pytest.mark.parametrize(
    ("number", "digits"), [(1e308, 309), (-1e308, 310), (5e-324, 326), (1e22, 23), (1.5, 3)]
)
def test_numbers_count_with_all_their_digits(number: float, digits: int) -> None:
    """PostgreSQL keeps them so, and sends them so."""
    size = len('{"x":}') + digits
    encode_payload({"x": number}, max_bytes=size)
    with pytest.raises(PayloadTooLarge):
        encode_payload({"x": number}, max_bytes=size - 1)
