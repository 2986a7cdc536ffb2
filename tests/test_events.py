"""Event types: their names, and the shapes that hosts register for them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from collections.abc import Callable, Hashable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

import msgspec
import pytest

from orgrealtime import events
from orgrealtime.errors import EventTypeError, PayloadError
from orgrealtime.protocol import wire


class TaskDict(TypedDict):
    task_id: int
    action: Literal["created", "done"]


@dataclasses.dataclass
class TaskData:
    task_id: int
    action: str
    tags: list[str] = dataclasses.field(default_factory=list)
    due: datetime.date | None = None


class TaskStruct(msgspec.Struct):
    task_id: Annotated[int, msgspec.Meta(ge=1)]
    action: str
    token: uuid.UUID | None = None


SCHEMAS = [TaskDict, TaskData, TaskStruct]


@pytest.fixture(autouse=True)
def _forget_types() -> Iterator[None]:
    yield
    for name in ("task", "other"):
        events.unregister(name)


# Names


@pytest.mark.parametrize(
    "name", ["a", "task_event", "task.created", "task:created", "Task-1", "websocket.disconnect", "x" * 100]
)
def test_name_of_ordinary_characters_is_accepted(name: str) -> None:  # fmt: skip
    assert events.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "_x", ".x", "1x", "a b", "a/b", "a\n", "a\x00", "é", "aé", "a\u0663", "x" * 101, "x" * 99_999, None, 1, b"a"],
)  # fmt: skip
def test_any_other_name_is_refused_in_one_short_line(name: object) -> None:
    with pytest.raises(EventTypeError) as caught:
        events.check_name(name)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(wire.RESERVED_TYPES))
def test_frame_of_the_protocol_cant_be_an_event(name: str) -> None:
    with pytest.raises(EventTypeError, match="frame of the protocol"):
        events.check_name(name)


# Registering


def test_decorator_returns_the_class() -> None:
    assert events.register("task")(TaskData) is TaskData
    with pytest.raises(PayloadError):
        events.fit("task", {}, strict=False)


def test_registering_the_same_class_again_is_fine() -> None:
    events.register("task", TaskData)
    events.register("task", TaskData)


def test_registering_another_class_is_refused() -> None:
    events.register("task", TaskData)
    with pytest.raises(EventTypeError, match="already registered"):
        events.register("task", TaskDict)


def test_registering_a_name_that_cant_be_published_is_refused() -> None:
    with pytest.raises(EventTypeError):
        events.register("batch", TaskData)


def test_forgotten_type_accepts_anything() -> None:
    events.register("task", TaskData)
    events.unregister("task")
    assert events.fit("task", {"any": "thing"}, strict=False) == {"any": "thing"}


# Registering what can't work


JSON = dict[str, "JSON"] | list["JSON"] | str | int | None


@dataclasses.dataclass
class Free:
    part: JSON


class Anything:
    """A class that msgspec doesn't know, as a pydantic model is for it."""


class Spoken(str):
    """A text with a class of its own, whose instances are plain JSON."""


class Inner(TypedDict):
    actor: int


class ArrayStruct(msgspec.Struct, array_like=True):
    task_id: int


class Tagged(msgspec.Struct, tag=True):
    task_id: int


class OtherTagged(msgspec.Struct, tag=True):
    action: str


class KindTagged(msgspec.Struct, tag_field="kind", tag="task"):
    task_id: int


class Pair(NamedTuple):
    task_id: int
    action: str


@runtime_checkable
class Sized(Protocol):
    def __len__(self) -> int: ...


class Unchecked(Protocol):
    task_id: int


def shape(annotation: Any, name: str = "part", **default: Any) -> type:
    """A dataclass with one field."""
    return dataclasses.make_dataclass("Shape", [(name, annotation, dataclasses.field(**default))])


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (Anything, r"\$ is .*Anything.* msgspec doesn't know"),
        (Unchecked, r"\$ is .*Unchecked.* msgspec doesn't know"),
        (ArrayStruct, "isn't a shape of JSON objects"),
        (Pair, "isn't a shape of JSON objects"),
        (list[int], "isn't a shape of JSON objects"),
        (int, "isn't a shape of JSON objects"),
        (5, "not supported"),
        ("TaskData", "not supported"),
        (Free, "JSON"),
        (shape(Anything), r"\$\.part is .*Anything"),
        (shape(Anything | None, default=None), r"\$\.part is .*Anything"),
        (shape(dict[str, list[Anything]]), r"\$\.part.* is .*Anything"),
        (shape(Unchecked), r"\$\.part is .*Unchecked"),
        (shape(complex), r"\$\.part is .*complex"),
        (shape(Callable[[int], int]), r"\$\.part is .*Callable"),
        (shape(list[int] | set[int]), "more than one array-like"),
        (shape(int, "actor"), "'actor' is reserved"),
        (Inner, "'actor' is reserved"),
        (Tagged, "tag_field.*reserved"),
        (Tagged | OtherTagged, "tag_field.*reserved"),
        (shape(msgspec.Raw), r"\$\.part is of a type that JSON doesn't have"),
        (shape(list[msgspec.msgpack.Ext]), r"\$\.part.* is of a type that JSON doesn't have"),
        (shape(dict[tuple[int, int], str]), r"the keys of \$\.part"),
        (shape(dict[Annotated[TaskData, msgspec.Meta(description="a task")], str]), r"the keys of \$\.part"),
        (shape(set[TaskDict]), r"\$\.part is a set of what can't be in a set"),
        (shape(frozenset[list[int] | dict[str, int]]), r"\$\.part is a set of what can't be in a set"),
        (shape(set[TaskData]), r"\$\.part is a set of what can't be in a set"),
    ],
)
def test_schema_that_no_payload_can_fit_is_refused_when_it_is_registered(schema: Any, why: str) -> None:
    with pytest.raises(EventTypeError, match=rf"(?s)'task'.*{why}.*allowed is a dataclass"):
        events.register("task", schema)
    assert events.fit("task", {"any": "thing"}, strict=False), "and isn't registered"


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (dict[str, int], {"a": 1}),
        (TaskData | None, {"task_id": 1, "action": "done"}),
        (Annotated[TaskData, msgspec.Meta(description="a task")], {"task_id": 1, "action": "done"}),
        (shape(object), {"part": 1}),
        (shape(Any), {"part": [{"a": None}]}),
        (shape(Hashable), {"part": "a"}),
        (shape(Sized), {"part": [1]}),
        (shape(Spoken), {"part": Spoken("a")}),
        (shape(Inner), {"part": {"actor": 1}}),
        (shape(dict[str, Inner]), {"part": {"actor": {"actor": 1}}}),
        (shape(int, "actor", default=1), {}),
        (shape(dict[int, str]), {"part": {"1": "a"}}),
        (shape(dict[uuid.UUID, int]), {"part": {str(uuid.UUID(int=1)): 1}}),
        (shape(bytes | None), {"part": "YQ=="}),
        (shape(decimal.Decimal), {"part": "1.5"}),
        (KindTagged, {"kind": "task", "task_id": 1}),
        (shape(Tagged | OtherTagged), {"part": {"type": "Tagged", "task_id": 1}}),
        (shape(dict[Literal["a", "b"], Any]), {"part": {"a": 1}}),
        (shape(set[tuple[int, str] | int]), {"part": [1, [1, "a"]]}),
        (shape(set[Any]), {"part": [1, "a"]}),
    ],
)
def test_schema_that_some_payload_fits_is_accepted(schema: Any, payload: Any) -> None:
    events.register("task", schema)
    assert events.fit("task", payload, strict=False) is payload


def test_instance_with_keys_that_are_no_text_becomes_plain_values() -> None:
    schema = shape(dict[int, str])
    events.register("task", schema)
    assert events.fit("task", schema({1: "a"}), strict=False) == {"part": {"1": "a"}}


def test_schema_that_names_a_later_class_is_read_when_it_is_first_used() -> None:
    schema = shape("list[Later]")
    events.register("task", schema)
    assert [mistake for mistake in events.unusable() if "Later" in mistake]
    with pytest.raises(EventTypeError, match="'Later' is not defined"):
        events.fit("task", {"part": []}, strict=False)
    globals()["Later"] = TaskData
    schema.__module__ = __name__
    try:
        events.fit("task", {"part": [{"task_id": 1, "action": "done"}]}, strict=False)
        with pytest.raises(PayloadError, match=r"part\[0\]"):
            events.fit("task", {"part": [{}]}, strict=False)
        assert list(events.unusable()) == []
    finally:
        del globals()["Later"]


def test_class_that_refers_to_itself_is_accepted() -> None:
    @events.register("task")
    @dataclasses.dataclass
    class Tree:
        children: list[Tree]

    globals()["Tree"] = Tree
    try:
        assert events.fit("task", {"children": [{"children": []}]}, strict=False)
        with pytest.raises(PayloadError, match="children"):
            events.fit("task", {"children": [{}]}, strict=False)
    finally:
        del globals()["Tree"]


# Fitting


@pytest.mark.parametrize("schema", SCHEMAS)
def test_payload_that_fits_is_kept_as_it_is(schema: type) -> None:
    events.register("task", schema)
    payload = {"task_id": 1, "action": "done"}
    assert events.fit("task", payload, strict=True) is payload


@pytest.mark.parametrize("schema", SCHEMAS)
def test_wrong_kind_of_value_is_refused_with_the_field_named(schema: type) -> None:
    events.register("task", schema)
    with pytest.raises(PayloadError, match=r"'task'.*task_id"):
        events.fit("task", {"task_id": "one", "action": "done"}, strict=False)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_missing_field_is_refused_with_the_field_named(schema: type) -> None:
    events.register("task", schema)
    with pytest.raises(PayloadError, match="action"):
        events.fit("task", {"task_id": 1}, strict=False)


def test_value_that_isnt_among_those_allowed_is_refused_with_the_field_named() -> None:
    events.register("task", TaskDict)
    with pytest.raises(PayloadError, match=r"action"):
        events.fit("task", {"task_id": 1, "action": "eaten"}, strict=False)


def test_field_further_in_is_named_with_its_path() -> None:
    events.register("task", TaskData)
    with pytest.raises(PayloadError, match=r"\$\.tags\[1\]"):
        events.fit("task", {"task_id": 1, "action": "done", "tags": ["a", 2]}, strict=False)


@pytest.mark.parametrize("payload", [None, [], "text", 1])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_isnt_an_object_is_refused(schema: type, payload: object) -> None:
    events.register("task", schema)
    with pytest.raises(PayloadError):
        events.fit("task", payload, strict=False)


@pytest.mark.parametrize(
    ("instance", "payload"),
    [
        (
            TaskData(1, "done", ["a"], datetime.date(2026, 11, 1)),
            {"task_id": 1, "action": "done", "tags": ["a"], "due": "2026-11-01"},
        ),
        (
            TaskStruct(1, "done", uuid.UUID(int=1)),
            {"task_id": 1, "action": "done", "token": str(uuid.UUID(int=1))},
        ),
    ],
)
def test_instance_of_the_class_becomes_plain_values(instance: Any, payload: dict[str, Any]) -> None:
    events.register("task", type(instance))
    assert events.fit("task", instance, strict=True) == payload


def test_instance_is_held_against_the_class_too() -> None:
    events.register("task", TaskStruct)
    with pytest.raises(PayloadError, match="task_id"):
        events.fit("task", TaskStruct(0, "done"), strict=False)


def test_instance_with_a_field_that_has_no_plain_value_is_refused() -> None:
    events.register("task", TaskData)
    with pytest.raises(PayloadError, match="task"):
        events.fit("task", TaskData(1, "done", [object()]), strict=False)  # type: ignore[list-item]


def test_value_that_cant_be_in_a_set_is_refused() -> None:
    events.register("task", shape(set[Any]))
    with pytest.raises(PayloadError, match=r"'task'.*unhashable.*list"):
        events.fit("task", {"part": [[1]]}, strict=False)


def test_type_that_isnt_registered_is_accepted_unless_strict() -> None:
    payload = {"any": "thing"}
    assert events.fit("other", payload, strict=False) is payload
    with pytest.raises(EventTypeError, match=r"STRICT_TYPES.*register"):
        events.fit("other", payload, strict=True)
