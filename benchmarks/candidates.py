"""What is measured: the example's real path, and its peers, each as one server on a core of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.crowd import Crowd, crowd, handshake
from tests.clients import log_in
from tests.servers import EXAMPLE, Server, Site, redis_url

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
UVICORN_OPTIONS = ["--ws-per-message-deflate", "false", "--no-access-log", "--log-level", "warning"]
PATHS = os.pathsep.join([str(ROOT), str(EXAMPLE)])


class Missing(RuntimeError):
    """A peer that isn't installed; the text says what it needs."""


@dataclass
class Candidate:
    """A running server, how clients come to it, and the command that publishes (`benchmarks.pace`).

    `message` is what a client sends that says something itself: `#` is the number of what is said.
    """

    name: str
    server: Server
    path: str
    publisher: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path = ROOT
    cookie: str = ""
    greeting: str = ""
    message: str = ""

    @property
    def pid(self) -> int:
        return self.server.pid

    def crowd(self, query: str = "", orgs: int = 1) -> AbstractContextManager[Crowd]:
        """Clients of this server; those of many organisations come to `bench-000`, `bench-001`, … by turns."""
        path = self.path if orgs == 1 else self.path.replace("acme", "bench-###")
        request = handshake(self.server.port, path + query, self.cookie)
        return crowd(self.server.port, request, self.greeting, orgs)

    @contextmanager
    def publishing(self, *arguments: str) -> Iterator[Publisher]:
        """A process that publishes to it."""
        with subprocess.Popen(
            [*self.publisher, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.cwd,
            env={**self.environ},
        ) as process:
            machine.pin(process.pid, machine.CLIENT_CORE)
            try:
                yield Publisher(process)
            finally:
                process.kill()


class Publisher:
    """A publishing process: `burst 50`, `rate 100 10`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, command: str) -> None:
        """Give a command; `wait` until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Wait for the command that was given last."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "done", "the publisher has failed"

    def do(self, command: str) -> None:
        """Give a command and wait for it."""
        self.tell(command)
        self.wait()


Open = Callable[[], AbstractContextManager[Candidate]]


# The example


class QuietSite(Site):
    """The example with one worker; the access log is off, as it is for the peers."""

    protocol = "websockets-sansio"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", self.application, "--port", str(self.port)]
        return [*command, "--ws", self.protocol, *UVICORN_OPTIONS]

    application = "config.asgi:application"


class FrameSite(QuietSite):
    protocol = "orgrealtime.uvicorn:FrameProtocol"


class ManyWorkers(QuietSite):
    """The example with more than one process."""

    count = 2

    def _command(self) -> list[str]:
        return [*super()._command(), "--workers", str(self.count)]


class PlainLoginSite(QuietSite):
    application = "benchmarks.peers.plain_login:application"


# One address and one user for thousands of clients is what the limits are against; all else is the example's own.
SITE_ENVIRON = {"LIMITS": "off", "LOG_LEVEL": "WARNING", "DEBUG": "off", "PYTHONPATH": PATHS}


@contextmanager
def site(kind: type[QuietSite] = QuietSite, name: str = "orgrealtime", **environ: str) -> Iterator[Candidate]:
    with kind(environ={**SITE_ENVIRON, **environ}) as running:
        machine.pin(running.pid, machine.SERVER_CORE)
        yield Candidate(
            name,
            running,
            "/ws/orgs/acme/notifications/",
            [sys.executable, "-m", "benchmarks.publisher"],
            running.environ,
            cwd=EXAMPLE,
            cookie=asyncio.run(_cookie(running)),
        )


# What clients say to each other, with the mark that they look for.
SAID = "^#^ Support says: fewer calls than on any Monday this year."

MAKE_ORGANIZATIONS = """
from django.contrib.auth.models import User
from tracker.models import Membership, Organization
alice = User.objects.get(username="alice")
for number in range({count}):
    slug = f"bench-{{number:03}}"
    organization, _ = Organization.objects.get_or_create(slug=slug, defaults={{"name": slug}})
    Membership.objects.get_or_create(organization=organization, user=alice)
"""


def organizations(candidate: Candidate, count: int) -> list[str]:
    """The slugs of so many organisations, all of them alice's."""
    if isinstance(candidate.server, Site):
        candidate.server.shell.run(MAKE_ORGANIZATIONS.format(count=count))
    return [f"bench-{number:03}" for number in range(count)]


MAKE_ROOM = """
from django.contrib.auth.models import User
from orgrealtime.chat import services
from tracker.models import Membership, Organization
organization = Organization.objects.get(slug="acme")
users = [User.objects.create_user(name) for name in {names!r}]
Membership.objects.bulk_create(Membership(organization=organization, user=user) for user in users)
services.create_room(organization, None, kind="private", name="Bench", slug="bench", members=users)
"""


def people(candidate: Candidate, count: int) -> list[str]:
    """The cookies of so many users, who are all that are in the room `bench`; peers don't ask who one is."""
    if not isinstance(candidate.server, Site):
        return [""] * count
    names = [f"bench-{number}" for number in range(count)]
    candidate.server.shell.run(MAKE_ROOM.format(names=names))
    return [asyncio.run(_cookie(candidate.server, name)) for name in names]


async def _cookie(site: Site, name: str = "alice") -> str:
    async with log_in(site, name) as user:
        return user.cookie


orgrealtime: Open = site
orgrealtime_frames: Open = functools.partial(site, FrameSite, "orgrealtime, ready frames")
channels_with_login: Open = functools.partial(site, PlainLoginSite, "Channels with login and history")


@contextmanager
def orgrealtime_room() -> Iterator[Candidate]:
    """A room of two processes, its messages kept; who is in it: `people`."""
    message = f'{{"type": "message", "client_message_id": "bench-#", "body": "{SAID}"}}'
    with site(ManyWorkers) as candidate:
        yield dataclasses.replace(candidate, path="/ws/orgs/acme/rooms/bench/", message=message)


# Peers


class Peer(Server):
    """A peer's server: `PORT` in its command is the port."""

    def __init__(self, command: Sequence[str], cwd: Path = ROOT, **environ: str) -> None:
        super().__init__()
        self.command = [word.replace("PORT", str(self.port)) for word in command]
        self.environ = {**os.environ, "REDIS_URL": redis_url(), "PYTHONPATH": str(ROOT), **environ}
        self.popen_options = {"cwd": cwd, "env": self.environ}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return self.command

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _uvicorn(application: str) -> list[str]:
    options = ["--port", "PORT", "--ws", "websockets-sansio", *UVICORN_OPTIONS]
    return [sys.executable, "-m", "uvicorn", application, *options]


@contextmanager
def plain_channels(layer: str = "pubsub") -> Iterator[Candidate]:
    with Peer(_uvicorn("benchmarks.peers.plain_channels:application"), LAYER=layer) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        publisher = [sys.executable, "-m", "benchmarks.peers.plain_channels"]
        yield Candidate(f"Channels, {layer} layer", peer, "/ws/plain/acme/", publisher, peer.environ)


plain_channels_core: Open = functools.partial(plain_channels, "core")


@contextmanager
def channels_tutorial(layer: str = "core") -> Iterator[Candidate]:
    """The chat of Channels' tutorial, two processes: it keeps nothing, and anybody may come."""
    command = [*_uvicorn("benchmarks.peers.plain_channels:application"), "--workers", str(ManyWorkers.count)]
    with Peer(command, LAYER=layer) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        name, message = f"Channels' tutorial, {layer} layer", f'{{"message": "{SAID}"}}'
        yield Candidate(name, peer, "/ws/chat/bench/", [], peer.environ, message=message)


channels_tutorial_pubsub: Open = functools.partial(channels_tutorial, "pubsub")


@contextmanager
def bare() -> Iterator[Candidate]:
    with Peer(_uvicorn("benchmarks.peers.bare:application")) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        yield Candidate("a bare uvicorn handshake", peer, "/", [], peer.environ)


@contextmanager
def raw() -> Iterator[Candidate]:
    module = [sys.executable, "-m", "benchmarks.peers.raw"]
    with Peer([*module, "serve", "PORT"]) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        yield Candidate("raw asyncio (uvloop)", peer, "/", [*module, "publish"], peer.environ)


@functools.cache
def _node_modules() -> Path:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("Socket.IO: needs node and npm on PATH")
    folder = Path(tempfile.mkdtemp(prefix="orgrealtime-socketio-"))
    for name in ("package.json", "socketio.mjs"):
        shutil.copy(PEERS / name, folder)
    install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(install, cwd=folder, check=False).returncode:
        raise Missing("Socket.IO: npm could not install it")
    return folder


@contextmanager
def socketio() -> Iterator[Candidate]:
    folder = _node_modules()
    with Peer(["node", "socketio.mjs", "serve", "PORT"], cwd=folder) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        path = "/socket.io/?EIO=4&transport=websocket"
        publisher = ["node", "socketio.mjs", "publish"]
        yield Candidate(
            "Socket.IO, Redis adapter", peer, path, publisher, peer.environ, cwd=folder, greeting="40"
        )


@contextmanager
def socketio_room() -> Iterator[Candidate]:
    """Two processes, which hear of each other's messages by Redis: they keep nothing, and anybody may come."""
    folder = _node_modules()
    with Peer(["node", "socketio.mjs", "serve", "PORT", str(ManyWorkers.count)], cwd=folder) as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        yield Candidate(
            "Socket.IO, Redis adapter",
            peer,
            "/socket.io/?EIO=4&transport=websocket",
            [],
            peer.environ,
            greeting="40",
            message=f'42["message", "{SAID}"]',
        )


class Nchan(Peer):
    """nginx with nchan, in a folder of its own."""

    def __init__(self) -> None:
        nginx = shutil.which("nginx")
        if nginx is None or not NCHAN.exists():
            raise Missing("nchan: needs nginx with nchan (Debian: nginx libnginx-mod-nchan)")
        super().__init__([nginx, "-p", ".", "-c", "nchan.conf"])
        conf = (PEERS / "nchan.conf").read_text().replace("PORT", str(self.port))
        (self.folder / "nchan.conf").write_text(conf)
        self.popen_options = {"cwd": self.folder, "env": self.environ}


@contextmanager
def nchan() -> Iterator[Candidate]:
    with Nchan() as peer:
        machine.pin(peer.pid, machine.SERVER_CORE)
        publisher = [sys.executable, "-m", "benchmarks.peers.nchan_publish", str(peer.port)]
        yield Candidate("nchan", peer, "/ws/", publisher, peer.environ)
