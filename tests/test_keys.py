"""Hosts whose primary keys aren't plain numbers: a run for each kind, with models of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers

ROOT = Path(__file__).parents[1]

KINDS = [
    "prefixed",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("prefixed_uuid", "uuid", "big", "text")),
]


def run(project: str, database: str, *, scenarios: str = "scenarios", **environ: str) -> None:
    """Run the scenarios of a project of its own, in a process and a database of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--ds=tests.{project}.settings",
    ]
    done = subprocess.run(
        [*command, f"tests/{project}/{scenarios}.py"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": servers.new_database(database), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_every_kind_do(kind: str) -> None:
    run("keyed", f"orgrealtime_keys_{kind}", HOST_KEYS=kind)


@pytest.mark.slow
def test_models_may_have_parents_children_and_proxies() -> None:
    run("family", "orgrealtime_family")
