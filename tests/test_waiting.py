"""What a test that waits in vain says, and how promised seconds are measured."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from tests import stopwatch
from tests.stopwatch import Processor, Stopwatch
from tests.threads import start
from tests.waiting import NotInTimeError, eventually, limit, text_of, until

BUSY = "while True: pass"


def test_text_of_a_condition_is_what_stands_in_the_test() -> None:
    numbers = [1, 2]
    assert text_of(lambda: len(numbers) == 3) == "len(numbers) == 3"
    functions = (
        lambda: all(number > 0 for number in numbers) and numbers[0] == 1, lambda ä: ä.get("ä", numbers)
    )  # fmt: skip
    assert [text_of(each) for each in functions] == [
        "all(number > 0 for number in numbers) and numbers[0] == 1",
        'ä.get("ä", numbers)',
    ]
    assert text_of(lambda: numbers) == "numbers"
    assert text_of(time.monotonic) == "monotonic"
    assert text_of(test_text_of_a_condition_is_what_stands_in_the_test).startswith("test_text_of")


def test_waiting_in_vain_says_what_for_and_what_was_seen() -> None:
    numbers = [1, 2]
    with pytest.raises(
        NotInTimeError, match=r"^not within 0 s: len\(numbers\) == 3; seen: numbers=\[1, 2\]$"
    ):
        until(lambda: len(numbers) == 3, seconds=0.01)
    with pytest.raises(NotInTimeError, match=r"^not within 0 s: a third number; seen: '2 numbers'$"):
        until(
            lambda: len(numbers) == 3, "a third number", seconds=0.01, seen=lambda: f"{len(numbers)} numbers"
        )


async def test_time_outs_of_what_is_waited_for_are_its_own() -> None:
    with pytest.raises(NotInTimeError, match="an answer; seen: 'nothing yet'"):
        async with limit("an answer", seconds=0.01, seen="nothing yet"):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError, match="of the library"):
        async with limit("an answer"):
            raise TimeoutError("of the library")
    nothing: list[int] = []
    with pytest.raises(NotInTimeError, match=r"0 s: nothing; seen: nothing=\[\]"):
        await eventually(lambda: nothing, seconds=0.01)


def test_thread_that_goes_on_is_named() -> None:
    with pytest.raises(NotInTimeError, match="the end of sleep"):
        start(time.sleep, 1).result(0.01)

    def fails() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        start(fails).result()


def test_stopwatch_allows_as_much_more_as_the_processes_have_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"1": Processor(had=1000, waited=70)}
    monkeypatch.setattr(stopwatch, "processors", lambda process_id: iter(seen.items()))
    with Stopwatch() as watch:
        assert watch.slowdown == 1.0
        seen["1"] = Processor(had=1200, waited=170)
        seen["2"] = Processor(had=200, waited=100)  # has begun meanwhile
        assert watch.slowdown == 1.5
        del seen["2"]  # has ended
        assert watch.slowdown == 1.5
        assert watch.allowed(2.0) >= 3.0


def test_stopwatch_sees_others_on_the_machine_and_being_stopped() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with Stopwatch() as watch:
            # Each of them waits as long as it works; others on the machine only add to it.
            until(lambda: watch.slowdown > 1.5)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    stop = (
        "import os, signal, time; os.kill({0}, signal.SIGSTOP); time.sleep(0.5); os.kill({0}, signal.SIGCONT)"
    )
    with Stopwatch() as watch:
        subprocess.run([sys.executable, "-c", stop.format(os.getpid())], check=True)
        until(lambda: watch.allowed(0.0) > 0.3, seen=lambda: watch.describe(0.0))
        with pytest.raises(
            AssertionError, match=r"^bob is closed: after 1000000\.00 s\. Promised are 2 s, allowed"
        ):
            watch.check(2.0, "bob is closed", took=1e6)
        assert watch.check(2.0, "bob is closed", took=2.0) == 2.0


async def test_condition_that_waits_for_its_answer_is_asked_until_it_holds() -> None:
    answers = iter([0, "", "yes"])

    async def answer() -> object:
        await asyncio.sleep(0)
        return next(answers)

    assert await eventually(answer) == "yes"
    with pytest.raises(NotInTimeError, match=r"never"):
        await eventually(never, seconds=0.01)


async def never() -> bool:
    return False
