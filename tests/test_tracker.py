"""The example's catalogue of German texts, and what its `demo` command says of a port that is taken."""

from __future__ import annotations

import ast
import gettext
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import EXAMPLE

CATALOGUE = EXAMPLE / "locale/de/LC_MESSAGES/django.po"
ENTRY = re.compile(r'^(?:msgctxt (".*")\n)?msgid ((?:".*"\n)+)msgstr ((?:".*"\n?)+)', re.MULTILINE)
IN_TEMPLATES = re.compile(r'{% translate "(.+?)"|{% blocktranslate[^%]*%}(.+?){% endblocktranslate')
IN_MODULES = re.compile(r'(?:\b_|gettext_noop|gettext_lazy|pgettext)\(\s*(?:"[\w ]+", )?"(.+?)"\s*\)')


def text_of(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in lines.splitlines())


def entries() -> dict[str, str]:
    """The catalogue as people write it: the translations by their texts, with their contexts as gettext joins them."""
    found = {}
    for context, text, translation in ENTRY.findall(CATALOGUE.read_text()):
        key = f"{text_of(context)}\x04{text_of(text)}" if context else text_of(text)
        found[key] = text_of(translation)
    return found


def test_compiled_catalogue_is_that_of_the_source() -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as compiled:
        catalogue = gettext.GNUTranslations(compiled)._catalog  # type: ignore[attr-defined]
    assert {key: text for key, text in catalogue.items() if key} == {
        key: text for key, text in entries().items() if key
    }, "msgfmt -o django.mo django.po"


def test_every_text_is_translated() -> None:
    known = {key.rpartition("\x04")[2] for key, translation in entries().items() if translation}
    used = set()
    for path in EXAMPLE.rglob("*.html"):
        for plain, block in IN_TEMPLATES.findall(path.read_text()):
            used.add(plain or re.sub(r"{{ (\w+) }}", r"%(\1)s", block))
    for path in EXAMPLE.rglob("*.py"):
        used |= set(IN_MODULES.findall(path.read_text()))
    assert len(used) > 90
    assert used - known == set()


def test_translations_keep_the_names_that_are_filled_in() -> None:
    for text, translation in entries().items():
        names = [sorted(re.findall(r"{\w+}|%\(\w+\)s", each)) for each in (text, translation)]
        assert names[0] == names[1], text


@pytest.mark.slow
def test_demo_says_in_one_line_that_its_port_is_taken(tmp_path: Path) -> None:
    environ = os.environ | {
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "REDIS_URL": "",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "manage.py", "demo", f"--port={port}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=EXAMPLE,
            env=environ,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"Port {port} is taken" in line
    assert "--port" in line
    # Django 6.1 makes some checks with a connection, which alone makes a file.
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
