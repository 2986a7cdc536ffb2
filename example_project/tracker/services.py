from django.contrib.auth.models import User
from django.db import transaction

from orgrealtime import publish
from tracker.models import Task


class UnknownStatus(ValueError):
    """The status isn't one a task can have."""

    def __init__(self, status: str) -> None:
        super().__init__(f"status must be one of {', '.join(Task.Status.values)}, not {status!r}.")


def change_status(task: Task, status: str, actor: User) -> Task:
    """Give the task this status and tell its organisation; nothing happens if it has it already.

    Raises UnknownStatus, and Task.DoesNotExist if the task is gone.
    """
    if status not in Task.Status.values:
        raise UnknownStatus(status)
    with transaction.atomic():
        # Locked, so that of two changes at once the second reports the first one's status as its `from`.
        current = Task.objects.select_for_update().get(pk=task.pk)
        if current.status == status:
            return current
        details = {"from": current.status, "to": status}
        current.status = status
        current.save(update_fields=["status", "updated_at"])
        payload = {"task_id": current.pk, "action": "status_changed", "details": details}
        publish(task.organization, "task_event", payload, actor=actor)
    return current
