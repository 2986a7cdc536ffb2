"""Celery, for `celery -A config worker`. Not used without REDIS_URL."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
def do_without_pool(**kwargs: Any) -> None:
    # The worker forks while its watchdog uses the database, and a pool doesn't survive that. Its processes do one thing
    # at a time anyway.
    from django.conf import settings

    for database in settings.DATABASES.values():
        database.get("OPTIONS", {}).pop("pool", None)


@worker_ready.connect
def watch_exports(**kwargs: Any) -> None:
    from exports.watchdog import watch

    watch()
