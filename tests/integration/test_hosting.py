"""The servers of the how-to "Which host are you?", started as it says."""

from __future__ import annotations

import configparser
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import Browser, sign_in
from tests.project import Project, fenced, read, section
from tests.servers import Server

pytestmark = pytest.mark.slow

PAGE = read("howto/which-host.md")
PATH = "/orgs/acme/notifications/"

Serve = Callable[[str], Server]


def commands(heading: str) -> list[str]:
    """The commands of a section."""
    [block] = fenced(section(PAGE, heading), "console")
    return [line.removeprefix("$ ") for line in block.splitlines()]


class Served(Server):
    """A project under a command of the page, at a port of its own."""

    def __init__(self, project: Project, command: str) -> None:
        super().__init__()
        self.popen_options = project.popen_options
        self.command = command

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        program, *words = shlex.split(self.command)
        if "--bind" in words:
            words[words.index("--bind") + 1] = f"127.0.0.1:{self.port}"
        else:
            words[words.index("--port") + 1] = str(self.port)
        return [str(Path(sys.executable).parent / Path(program).name), *words]

    _answers = Project._answers


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    project.follow_tutorial()
    project.write("config/workers.py", fenced(section(PAGE, "gunicorn with uvicorn's workers"), "python")[0])
    yield project
    project.close()


@pytest.fixture
def serve(project: Project) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(command: str) -> Server:
        servers.append(Served(project, command))
        return servers[-1].start()

    yield start
    for server in servers:
        server.close()


async def test_site_under_wsgi_has_its_sockets_in_a_process_beside_it(serve: Serve) -> None:
    site, beside = (serve(command) for command in commands("A WSGI site, and one ASGI process beside it"))
    async with sign_in(site.url, "alice") as alice, sign_in(site.url, "bob") as bob:
        assert (await alice.http.get(PATH)).status_code == 200
        assert (await alice.http.get(f"{PATH}stream/")).status_code == 501
        connected = Browser(beside.url)
        connected.http.cookies = alice.http.cookies
        async with connected.socket() as socket:
            await socket.synced()
            assert (await bob.post("/orgs/acme/", text="from the site")).is_redirect
            await socket.until(lambda one: [event["text"] for event in one.events] == ["from the site"])
        await connected.http.aclose()


def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(fenced(section(PAGE, "systemd"), "ini")[0])
    return unit["Service"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(commands("gunicorn with uvicorn's workers")[0], id="gunicorn"),
        pytest.param(service()["ExecStart"], id="systemd"),
    ],
)
async def test_workers_serve_sockets_and_drain(serve: Serve, command: str) -> None:
    site = serve(command)
    async with sign_in(site.url, "alice") as alice, alice.socket() as socket:
        await socket.synced()
        await alice.post("/orgs/acme/", text="to all workers")
        await socket.until(lambda one: one.events and one.events[-1]["text"] == "to all workers")
        assert site.process is not None
        site.process.terminate()
        await socket.until(lambda one: any(frame["type"] == "going_away" for frame in one.frames))
    assert site.process.wait(float(service()["TimeoutStopSec"])) == 0
