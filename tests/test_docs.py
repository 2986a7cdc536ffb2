"""The documentation says what the code does: names are compared, and what a reader is told to type is typed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from orgrealtime import conf
from orgrealtime.errors import OUTCOMES, Outcome
from orgrealtime.protocol import wire
from orgrealtime.rates import Rate
from tests import servers
from tests.clients import sign_in
from tests.project import DOCS, ROOT, Project, fenced, read

SOURCE = ROOT / "src/orgrealtime"


# Names


def test_settings_page_has_every_setting_and_no_other() -> None:
    assert set(re.findall(r"^### `([A-Z_]+)`$", read("reference/settings.md"), re.MULTILINE)) == {
        *conf.NAMES,
        *conf.FLAT_NAMES,
    }


@pytest.mark.parametrize("name", sorted(conf.NAMES))
def test_settings_page_gives_the_default(name: str) -> None:
    given = re.search(rf"^### `{name}`\n\nDefault: `(.+)`", read("reference/settings.md"), re.MULTILINE)
    assert given
    assert eval(given[1], {"Rate": Rate}) == getattr(conf.Settings(), name)  # noqa: S307 - our own page


@pytest.mark.parametrize("page", ["reference/errors.md", "reference/protocol.md"])
@pytest.mark.parametrize("row", list(OUTCOMES.values()), ids=lambda row: row.name)
def test_page_has_the_row_of_a_close_code(page: str, row: Outcome) -> None:
    client = "reconnect" if row.retry else "stop"
    cells = rf"^\| {row.code} \| `{row.name}` \| {row.http_status or '.'} \| {client}"
    assert re.search(cells, read(page), re.MULTILINE)


@pytest.mark.parametrize("frame", sorted(wire.RESERVED_TYPES))
def test_protocol_page_describes_a_frame_with_an_example(frame: str) -> None:
    assert re.search(rf"^### `{frame}`$", read("reference/protocol.md"), re.MULTILINE)
    assert frame in {example.get("type") for example in examples()}


@pytest.mark.parametrize(
    "text",
    [
        wire.batch([], "e.1"),
        wire.cursor("e.1"),
        wire.synced("e.1"),
        wire.reset("e.1", "epoch"),
        wire.pong("e.1"),
        wire.error("bad_request", ""),
    ],
    ids=lambda text: json.loads(text)["type"],
)
def test_example_of_a_frame_has_its_members(text: str) -> None:
    frame = json.loads(text)
    assert [list(frame)] == [list(example) for example in examples() if example.get("type") == frame["type"]]


def examples() -> list[dict[str, Any]]:
    return [json.loads(block) for block in fenced(read("reference/protocol.md"), "json")]


def test_errors_page_has_every_check_and_no_other() -> None:
    pattern = r"orgrealtime\.[EW]\d{3}"
    in_code = {id for path in SOURCE.rglob("checks.py") for id in re.findall(pattern, path.read_text())}
    assert set(re.findall(pattern, read("reference/errors.md"))) == in_code


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (SOURCE / "management/commands").glob("orgrealtime_*.py"))
)
def test_commands_page_has_a_command_and_its_options(name: str) -> None:
    page = read("reference/commands.md")
    assert f"## `{name}`" in page
    parser = load_command_class("orgrealtime", name).create_parser("manage.py", name)
    common = BaseCommand().create_parser("manage.py", name)
    inherited = {option for action in common._actions for option in action.option_strings}
    for action in parser._actions:
        for option in set(action.option_strings) - inherited:
            assert f"`{option}" in page


def log_calls() -> Iterator[tuple[str, str, str, list[str]]]:
    """Logger, level, message and fields of every log call in the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = re.search(r'getLogger\("([\w.]+)"\)', path.read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("logger"), attr=level), args=[ast.Constant(message)]
                ):
                    assert named
                    extras = [word.value for word in node.keywords if word.arg == "extra"]
                    fields = [ast.literal_eval(key) for extra in extras for key in keys(extra)]
                    yield named[1], {"exception": "ERROR"}.get(level, level.upper()), str(message), fields


def keys(node: ast.expr) -> list[ast.expr]:
    assert isinstance(node, ast.Dict)
    return [key for key in node.keys if key is not None]


@pytest.mark.parametrize(("logger", "level", "message", "fields"), list(log_calls()))
def test_logging_page_has_a_message_and_its_fields(
    logger: str, level: str, message: str, fields: list[str]
) -> None:
    mentioned = logging_page()[logger, level, message]
    assert set(fields) <= set(re.findall(r"`(\w+)`", mentioned))


def test_logging_page_has_no_other_message() -> None:
    assert set(logging_page()) == {(logger, level, message) for logger, level, message, _ in log_calls()}


def logging_page() -> dict[tuple[str, str, str], str]:
    """What the page says of the fields, by logger, level and message."""
    rows = {}
    sections = re.split(r"^## `([\w.]+)`$", read("reference/logging.md"), flags=re.MULTILINE)[1:]
    for logger, section in zip(sections[::2], sections[1::2], strict=True):
        for line in section.splitlines():
            if row := re.fullmatch(r"\| ([A-Z]+) \| (.+?) \|(.*)\|", line):
                rows[logger, row[1], row[2]] = row[3]
    return rows


@pytest.mark.parametrize("page", ["explanation/guarantees.md", "explanation/abuse.md"])
def test_page_names_tests_that_exist(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", read(page)))
    assert named
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in named if not re.search(rf"def {name}\(", written)} == set()


# What the reader types


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/pip install -q . -r example_project/requirements.txt"
        " && .venv/bin/python example_project/manage.py demo",
        "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox run -e tests",
    ],
)
def test_readme_has_a_command_in_full(command: str) -> None:
    assert f"\n$ {command}\n" in (ROOT / "README.md").read_text()


def commands_of(program: str) -> list[str]:
    """The command lines of the documentation with which a server is started."""
    pages = [ROOT / "README.md", ROOT / "example_project/README.md", *sorted(DOCS.rglob("*.md"))]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    return re.findall(rf"(?:^|[$`] *){program} config\.asgi:application ([^`\n]+)", text, re.MULTILINE)


def test_uvicorn_is_started_without_compression_everywhere() -> None:
    """A client may send little that unpacks to much."""
    commands = commands_of("uvicorn")
    assert len(commands) >= 4
    assert [command for command in commands if "--ws-per-message-deflate false" not in command] == []


def test_granian_is_tested_with_the_flags_of_the_documentation() -> None:
    (command,) = commands_of("granian")
    tested = servers.Site.commands["granian"]
    assert " ".join(tested[1:]) == re.sub(r"--workers \d+ ", "", command.strip())


PYTHON_BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}:{number}")
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    for number, block in enumerate(fenced(path.read_text(), r"(?:python|\{code-block\} python)"))
]


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_in_the_documentation_compiles(block: str) -> None:
    code = re.sub(r"\A:caption:.*\n", "", block)
    compile(code, "documentation", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture
def project() -> Iterator[Project]:
    project = Project()
    yield project
    project.close()


@pytest.fixture(scope="module")
def tutorial() -> Iterator[tuple[Project, list[list[str]]]]:
    """What the first tutorial makes, and the commands with which it publishes."""
    project = Project()
    yield project, project.follow_tutorial()
    project.close()


@pytest.fixture
def followed(tutorial: tuple[Project, list[list[str]]]) -> Iterator[Project]:
    """A project of its own, as the first tutorial leaves it."""
    project = Project(copied_from=tutorial[0])
    yield project
    project.close()


@pytest.mark.slow
async def test_tutorial_leads_to_two_live_pages(
    followed: Project, tutorial: tuple[Project, list[list[str]]]
) -> None:
    project, (first, second) = followed, tutorial[1]
    project.start()
    async with sign_in(project.url, "alice") as alice, sign_in(project.url, "bob") as bob:
        page = (await alice.http.get("/orgs/acme/")).text
        assert '"orgrealtime": "/static/orgrealtime/client.js"' in page
        assert (await alice.http.get("/static/orgrealtime/client.js")).status_code == 200
        async with alice.socket() as socket:
            await socket.synced()
            await bob.post("/orgs/acme/", text="Hello, Alice")
            await socket.until(lambda one: len(one.events) == 1)
            project.manage(*first)
            await socket.until(lambda one: len(one.events) == 2)
        cursor = socket.cursor
        project.stop()
        project.manage(*second)
        project.start()
        async with alice.socket(query=f"since={cursor}") as again:
            await again.synced()
    assert [event["text"] for event in socket.events] == ["Hello, Alice", "Good morning"]
    assert [event["text"] for event in again.events] == ["You were away"]


@pytest.mark.slow
async def test_tutorial_leads_to_a_room_in_which_two_people_talk(followed: Project) -> None:
    project = followed
    project.follow("tutorial/chat-room.md")
    project.manage("check", "--fail-level", "WARNING")
    project.start()
    page, messages = "/orgs/acme/chat/general/", "/orgs/acme/rooms/general/messages/"
    async with sign_in(project.url, "alice") as alice, sign_in(project.url, "bob") as bob:
        shown = (await alice.http.get(page)).text
        assert '<org-room org="acme" room="general"' in shown
        assert '"name": "bob"' in shown
        assert (await bob.http.get("/orgs/acme/chat/unknown/")).status_code == 404
        assert (await bob.http.get(page)).status_code == 200
        async with alice.socket() as hers, bob.socket() as his:
            await hers.synced()
            await his.synced()
            room = (await alice.http.get(messages)).json()["messages"][0]["room"]
            said = {"type": "message", "room": room, "client_message_id": "1", "body": "Hello, Bob"}
            await hers.send(said)
            await his.until(lambda one: "chat.message" in [event["type"] for event in one.events])
            await bob.post("/orgs/acme/", text="Milk")
            for socket in (hers, his):
                await socket.until(lambda one: len(one.events) == 3)
        kept = (await bob.http.get(messages)).json()["messages"]
    expected = ["Hello from the shell", "Hello, Bob", "bob has a new note: Milk"]
    assert [message["body"] for message in kept] == expected
    heard = {event.get("body", event.get("text")) for event in his.events}
    assert heard == {"Hello, Bob", "Milk", "bob has a new note: Milk"}


@pytest.mark.slow
def test_readme_wires_orgrealtime_into_a_project(project: Project) -> None:
    text = (ROOT / "README.md").read_text()
    project.manage("startapp", "teams")
    for block in fenced(text, "python"):
        caption, content = block.removeprefix("# ").split("\n", 1)
        keeps = caption in {"config/settings.py", "config/urls.py"}
        project.write(f"{caption}, at the end" if keeps else caption, content)
    project.manage("makemigrations", "teams")
    project.manage("migrate")
    project.manage("check", "--fail-level", "WARNING")
    script = (
        "import config.asgi; from teams.models import Organization; from teams.services import rename; "
        "rename(Organization.objects.create(slug='acme', name='Acme'), 'Acme Ltd', actor=None)"
    )
    project.manage("shell", "-c", script)
    project.manage("shell", "-c", "from orgrealtime.models import NotificationEvent as E; E.objects.get()")
