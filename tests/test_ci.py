"""Continuous integration runs the command that the README and CONTRIBUTING give for the tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_ci_runs_the_documented_command(page: str) -> None:
    command = re.search(r"^tests\(\) \{\n +(.+)\n\}", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert command
    assert command[1] in (ROOT / page).read_text()
