"""Ends the exports whose worker is gone, so that nobody waits for them. Every web process and worker has one."""

import logging
import threading
import time

from django.db import Error, connections

from exports import services

logger = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds; with the lease this is how long a dead worker goes unnoticed


def watch() -> None:
    """Look after the exports for as long as this process lives."""
    threading.Thread(target=keep_looking, name="exports-watchdog", daemon=True).start()


def keep_looking() -> None:
    reachable = True
    while True:
        time.sleep(LOOK_EVERY)
        is_reached = look()
        if reachable and not is_reached:
            logger.warning("exports can't be watched: the database can't be reached")
        reachable = is_reached


def look() -> bool:
    """End what is abandoned; False if the database can't be asked."""
    try:
        if count := services.fail_abandoned():
            logger.warning("exports abandoned by their worker", extra={"count": count})
    except Error:
        return False
    finally:
        # Back into the pool: between two looks others have more use for it.
        connections.close_all()
    return True
