"""A project as the documentation makes it: by `startproject`, and the files that a page shows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.servers import Server
from tests.waiting import LIMIT_SECONDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def read(page: str) -> str:
    return (DOCS / page).read_text()


def fenced(text: str, opening: str) -> list[str]:
    """The contents of the blocks that begin with ``` and this pattern."""
    return re.findall(rf"^```{opening}\n(.+?)^```", text, re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.+?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


class Project(Server):
    """A project under uvicorn."""

    def __init__(self, *, copied_from: Project | None = None) -> None:
        super().__init__()
        environ = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        self.popen_options = {"cwd": self.folder, "env": environ}
        if copied_from:
            shutil.copytree(copied_from.folder, self.folder, dirs_exist_ok=True)
        else:
            self.run(sys.executable, "-m", "django", "startproject", "config", ".")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, caption: str, text: str) -> None:
        """Write a file, or add to it if the caption ends in "at the end"."""
        name, _, place = caption.partition(", ")
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if place else ""
        path.write_text(f"{before}\n{text}")

    def run(self, *command: str) -> str:
        done: subprocess.CompletedProcess[str]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self.popen_options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def manage(self, *arguments: str) -> str:
        return self.run(sys.executable, "manage.py", *arguments)

    def _command(self) -> list[str]:
        options = ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
        return [
            sys.executable,
            "-m",
            "uvicorn",
            "config.asgi:application",
            "--port",
            str(self.port),
            *options,
        ]

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=LIMIT_SECONDS).close()
        except OSError:
            return False
        return True

    def follow_tutorial(self) -> list[list[str]]:
        """Make what the first tutorial makes; return the commands with which it publishes."""
        return self.follow("tutorial/first-page.md")

    def follow(self, page: str) -> list[list[str]]:
        """Write the files of a page and run its commands of manage.py, in its order; return those that publish."""
        publishing = []
        for opening, content in re.findall(r"^```(.+?)\n(.+?)^```", read(page), re.MULTILINE | re.DOTALL):
            if opening.startswith("{code-block}"):
                caption, text = content.split("\n\n", 1)
                self.write(caption.removeprefix(":caption: "), text)
            for line in re.findall(r"^\$ python manage\.py (.+)$", content, re.MULTILINE):
                command = shlex.split(line)
                if command[0] == "orgrealtime_publish":
                    publishing.append(command)
                else:
                    self.manage(*command)
        return publishing
