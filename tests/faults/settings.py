"""The example's settings with what the rig needs to look inside a process and to bend its world.

SIGUSR1 makes a process write the number of its asyncio tasks to `$FAULTS_FOLDER/tasks-<pid>`. SIGUSR2 makes it block
its event loop as long as there is a file `blocked` in that folder. `FAULTS_CLOCK` names a file with the seconds by
which the clock of the wall is wrong. `FAULTS_LOSSY` is the seed of a lossy channel layer, `FAULTS_LAYER=core` takes the
layer of channels_redis that keeps its groups in Redis.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import threading
import time
from pathlib import Path

from config.settings import *  # noqa: F403
from config.settings import CHANNEL_LAYERS, ORGREALTIME
from django.utils import timezone

FOLDER = Path(os.environ["FAULTS_FOLDER"])
BLOCKED = "blocked"


def report_tasks(*signal_and_frame: object) -> None:
    (FOLDER / f"tasks-{os.getpid()}").write_text(str(len(asyncio.all_tasks(asyncio.get_running_loop()))))


def block(*signal_and_frame: object) -> None:
    while (FOLDER / BLOCKED).exists():
        time.sleep(0.05)


if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGUSR1, report_tasks)
    signal.signal(signal.SIGUSR2, block)

ORGREALTIME["ADAPTER"] = "tests.faults.adapter.RolesAdapter"
ORGREALTIME_CHAT = {"MESSAGES_PER_MINUTE": 100_000, "ROOM_BURST": 100_000}

if os.environ.get("FAULTS_LAYER") == "core":
    CHANNEL_LAYERS["default"]["BACKEND"] = "channels_redis.core.RedisChannelLayer"

if seed := os.environ.get("FAULTS_LOSSY"):
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "orgrealtime.testing.layers.LossyChannelLayer",
        "CONFIG": {
            "layer": CHANNEL_LAYERS["default"],
            "drop": 0.3,
            "double": 0.1,
            "reorder": 0.1,
            "seed": int(seed),
        },
    }

if clock := os.environ.get("FAULTS_CLOCK"):
    clock_file = Path(clock)
    right_time = time.time

    def wrong_time() -> float:
        return right_time() + float(clock_file.read_text())

    def wrong_now() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(wrong_time(), datetime.UTC)

    time.time = wrong_time
    timezone.now = wrong_now
