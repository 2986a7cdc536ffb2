"""`orgrealtime_bench` against a real server: what a host measures its own deployment with."""

from __future__ import annotations

import re

import pytest

from orgrealtime.operations.bench import Benchmark, Report
from tests.integration.conftest import RunningSite
from tests.servers import ServerError, Site
from tests.shell import ShellError


@pytest.fixture(scope="module")
def site(running_site: RunningSite) -> Site:
    return running_site("uvicorn")


def test_bench_measures_a_running_server_and_leaves_nothing_behind(site: Site) -> None:
    options = ["--user", "alice", "--user", "bob", "--connections", "20", "--events", "30", "--rate", "100"]
    sessions = site.shell.run(COUNT_SESSIONS)
    rows = table(site.manage("orgrealtime_bench", site.url, "acme", *options))
    assert rows["connections"].startswith("20 of 20 in ")
    assert rows["events"].startswith("30 published")
    assert rows["deliveries"] == "600 of 600"
    assert rows["lost, doubled, out of order"] == "0, 0, 0"
    p50, p99, longest = map(float, re.findall(r"(?:p50|p99|longest) ([0-9.]+) ms", rows["publish to client"]))
    assert 0 < p50 <= p99 <= longest
    assert site.shell.run(COUNT_SESSIONS) == sessions


@pytest.mark.slow
def test_connections_that_are_refused_are_counted_and_fail_the_command(site: Site) -> None:
    with pytest.raises(ServerError, match="not every connection was let in"):
        site.manage(
            "orgrealtime_bench", site.url, "acme", "--user", "alice", "--connections", "52", "--events", "1"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://x", "acme", "--user", "alice"], "begins with http:// or https://"),
        (["URL", "none", "--user", "alice"], "no organisation with the slug 'none'"),
        (["URL", "acme", "--user", "nobody"], "no user nobody"),
        (["URL", "acme", "--user", "carol"], "no member of this organisation: carol"),
        (["URL", "acme"], "--user"),
        (["URL", "acme", "--user", "alice", "--rate", "0"], "a number above 0"),
        (["URL", "acme", "--user", "alice", "--events", "0"], "a whole number above 0"),
        (["URL", "acme", "--user", "alice", "--type", "_x"], "_x"),
    ],
)
def test_wrong_arguments_are_refused_and_say_what_is_allowed(
    site: Site, arguments: list[str], message: str
) -> None:
    words = ["orgrealtime_bench", *[site.url if each == "URL" else each for each in arguments]]
    with pytest.raises(ShellError, match=re.escape(message)):
        site.shell.run(f"from django.core.management import call_command; call_command(*{words})")


def test_events_that_come_twice_or_late_or_not_at_all_are_told_apart() -> None:
    trial = Benchmark("ws://x", [], None, [], "bench")  # type: ignore[arg-type]
    report = trial._report = Report(wanted=1, opened=1, published=4)
    trial._begun = [0.0, 1.0, 2.0, 3.0]
    newest = -1
    for number in (0, 0, 2, 1):
        newest = trial._take(number, newest, 4.0)
    assert (len(report.latencies), report.doubled, report.disordered, report.lost) == (2, 1, 1, 2)
    assert not report.is_flawless
    assert report.latencies == [4.0, 2.0]


COUNT_SESSIONS = "from django.contrib.sessions.models import Session; print(Session.objects.count())"


def table(text: str) -> dict[str, str]:
    return {name.strip(): value for name, value in re.findall(r"^(.+?)  +(.+)$", text, re.MULTILINE)}
