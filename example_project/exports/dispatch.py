"""The way to a worker: Celery where there is a broker, else a thread of this process that runs the same task."""

from threading import Thread

from django.conf import settings
from django.db import connections
from kombu.exceptions import OperationalError


class NoWorker(Exception):
    """The broker can't be reached."""


def start(job_id: str, *, to_fail: bool) -> None:
    """Start the task. Raises NoWorker."""
    if settings.CELERY_BROKER_URL:
        start_in_celery(job_id, to_fail=to_fail)
    else:
        # A daemon, so that a server which is told to stop doesn't wait for it: the watchdog sees to the rest.
        Thread(target=run_here, args=(job_id,), kwargs={"to_fail": to_fail}, daemon=True).start()


def start_in_celery(job_id: str, *, to_fail: bool) -> None:
    from exports.tasks import run_export

    try:
        run_export.delay(job_id, to_fail=to_fail)
    except OperationalError as error:
        raise NoWorker from error


def run_here(job_id: str, *, to_fail: bool) -> None:
    from exports.tasks import run_export

    try:
        run_export(job_id, to_fail=to_fail)
    finally:
        connections.close_all()
