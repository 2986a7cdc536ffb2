"""The page about rooms says what the code does."""

from __future__ import annotations

import inspect
import re

import pytest

from orgrealtime.chat import conf, errors, events, history, models, rules, services
from tests.project import read

PAGE = read("reference/chat.md")


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"^\|.*\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def test_page_has_every_setting_with_its_default() -> None:
    defaults = {name: repr(getattr(conf.ChatSettings(), name)).replace("'", '"') for name in conf.NAMES}
    assert {row[0].strip("`"): row[1].strip("`") for row in rows("Settings")} == defaults


def test_page_has_every_error_with_its_status() -> None:
    assert {row[0].strip("`"): int(row[1]) for row in rows("Errors")} == errors.HTTP_STATUS


def test_page_has_every_event_with_its_members() -> None:
    shown = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows("Events")}
    assert shown == {name: list(schema.__annotations__) for name, schema in events.TYPES.items()}


def test_page_has_every_service_with_its_arguments() -> None:
    section = PAGE.split("\n## Services\n")[1].split("\n### ")[0]
    shown = dict(re.findall(r"`(\w+)\((.*?)\)`", section)) | dict(
        re.findall(r"`history\.(read)\((.*?)\)`", section)
    )
    functions = {name: getattr(services, name) for name in services.__all__}
    functions = {name: each for name, each in functions.items() if inspect.isfunction(each)}
    functions["read"] = history.read
    expected = {}
    for name, function in functions.items():
        signature = inspect.signature(function)
        plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        expected[name] = str(inspect.Signature(plain))[1:-1].replace("'", '"')
    shown.pop("Sent", None)
    assert shown == expected


def test_page_has_every_rule() -> None:
    section = PAGE.split("\n## Who may what\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)\(", section, re.MULTILINE)) == set(rules.METHODS)
    public = {name for name, _ in inspect.getmembers(rules.Rules, inspect.isfunction) if name[0] != "_"}
    assert public == set(rules.METHODS)


@pytest.mark.parametrize("model", [models.Room, models.Member, models.Message, models.Reaction])
def test_page_has_every_field_that_is_not_for_this_package_alone(model: type) -> None:
    shown = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows("Models")}[model.__name__]
    fields = {field.name for field in model._meta.concrete_fields}  # type: ignore[attr-defined]
    assert fields - {"id", "organization", "direct_key", "text_digest"} <= shown
