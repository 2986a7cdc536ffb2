# Loaded with the project, so that a task which is started anywhere goes to its broker.
from config.celery import app as celery_app

__all__ = ["celery_app"]
