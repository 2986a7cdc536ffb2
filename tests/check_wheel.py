"""Build wheel and sdist, and run the example from the sdist with the wheel, in an empty virtual environment.

Needs the packages build and twine. Nothing of the working tree is importable while the example runs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


def main(folder: Path) -> None:
    wheel, sdist = build(folder / "dist")
    example = unpack(sdist, folder) / "example_project"
    python = new_environment(folder / "venv")
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[redis]", "-r", f"{example}/requirements.txt")

    environ = os.environ | {"DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "PYTHONPATH": ""}
    environ.pop("REDIS_URL", None)
    for arguments in (["check"], ["migrate"], ["seed_demo"]):
        run(python, "-W", "error", "manage.py", *arguments, cwd=example, env=environ)
    run(python, "-c", CHECK_PLACE, str(folder), cwd=example, env=environ)
    check_http(python, example, environ)
    print(f"{wheel.name} and {sdist.name} are good")


CHECK_PLACE = """
import sys, orgrealtime, pathlib
place = pathlib.Path(orgrealtime.__file__).parent
assert place.is_relative_to(sys.argv[1]), place
for name in ("py.typed", "client.js", "client.d.ts", "diagnostics.js", "fallbacks.js", "notifications.js", "panel.js"):
    path = name if name == "py.typed" else "static/orgrealtime/" + name
    assert (place / path).exists(), f"no {path}"
"""


def build(dist: Path) -> tuple[Path, Path]:
    run(sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def new_environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    return str(folder / "bin/python")


def check_http(python: str, example: Path, environ: Mapping[str, str]) -> None:
    port = free_port()
    command = [python, "-m", "uvicorn", "config.asgi:application", "--port", port, "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=example, env=environ)
    try:
        page = fetch(f"http://127.0.0.1:{port}/accounts/login/", server)
    finally:
        server.terminate()
        server.wait()
    assert "csrfmiddlewaretoken" in page, page


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def fetch(url: str, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url) as response:
                return str(response.read().decode())
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def run(*command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=cwd, env=env, check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="orgrealtime-") as folder:
        main(Path(folder).resolve())
