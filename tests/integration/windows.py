"""Runs a program with the names taken away that Python has on Unix only: `python windows.py MODULE ARGUMENT…`."""

import asyncio
import asyncio.unix_events
import os
import runpy
import signal
import socket
import subprocess  # noqa: F401 - looks at the platform when it is imported
import sys
from pathlib import Path
from typing import Any

# Not fcntl: Celery looks at the name of the platform instead.
MODULES = ("grp", "pwd", "resource", "uvloop")
OF_OS = ("fork", "forkpty", "getuid", "geteuid", "register_at_fork", "wait3", "wait4")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
OF_SIGNAL = (*SIGNALS, "pthread_sigmask", "setitimer", "sigwait")


def _not_on_windows(*args: Any) -> None:
    raise NotImplementedError


for name in MODULES:
    sys.modules[name] = None  # type: ignore[assignment]
for module, names in ((os, OF_OS), (signal, OF_SIGNAL), (socket, ("TCP_USER_TIMEOUT",))):
    for name in names:
        vars(module).pop(name, None)
loop: Any = asyncio.unix_events._UnixSelectorEventLoop  # type: ignore[attr-defined]
loop.add_signal_handler = loop.remove_signal_handler = _not_on_windows

if __name__ == "__main__":
    del sys.argv[0]
    sys.path[0] = str(Path.cwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
