"""The tables of the stream and the models of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from tests import servers

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.django_db(databases=["default", "lite"])


def test_migration_comes_after_the_one_that_makes_the_organisation() -> None:
    node = MigrationLoader(connections["default"]).graph.node_map["orgrealtime", "0001_initial"]
    assert ("host", "0002_organization") in {parent.key for parent in node.parents}


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "orgrealtime", check=True, dry_run=True, verbosity=0)


@pytest.mark.slow
@pytest.mark.skipif("HOST_ORG_PK" in os.environ, reason="this is that run")
def test_organisations_may_have_uuids() -> None:
    tests = [f"tests/stream/test_{name}.py" for name in ("access", "numbering", "pruning")]
    tests += ["tests/test_commands.py", "-k", "access or commands or dense or backlog or heads or recipients"]
    environ = {**os.environ, "HOST_ORG_PK": "uuid", "DATABASE_URL": servers.new_database("orgrealtime_uuid")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
