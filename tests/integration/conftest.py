from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.servers import Site

RunningSite = Callable[[str], Site]

SERVERS = ["uvicorn", pytest.param("granian", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def running_site() -> Iterator[RunningSite]:
    """`running_site("granian")`: the example, for all tests that neither stop it nor change its demo data."""
    with ExitStack() as stack:
        yield functools.cache(lambda server: stack.enter_context(Site(server=server)))
