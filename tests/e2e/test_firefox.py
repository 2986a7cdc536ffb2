"""The core of the suite in Firefox, which Playwright can't drive as distributions ship it; Puppeteer does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import Site

SCRIPT = Path(__file__).with_name("firefox.mjs")
STEPS = re.findall(r'^  async "(.+)"\(\)', SCRIPT.read_text(), re.MULTILINE)
NAMES = ("firefox-esr", "firefox")


@pytest.fixture(scope="module")
def firefox() -> str:
    """Firefox: `FIREFOX`, else the one on PATH."""
    path = os.environ.get("FIREFOX") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("there is no Firefox: install firefox-esr, or name one in FIREFOX")
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("there is no npm, which brings what drives Firefox")
    folder = tmp_path_factory.mktemp("puppeteer")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "puppeteer-core@24"]
    subprocess.run(command, check=True, timeout=300)
    return Path(shutil.copy(SCRIPT, folder))


@pytest.mark.parametrize("step", STEPS)
def test_in_firefox(site: Site, firefox: str, script: Path, step: str) -> None:
    command = ["node", script, firefox, site.url, step]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
