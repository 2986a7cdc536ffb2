"""The people of the demo, whose password everybody knows."""

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

PASSWORD = "demo"
USERS = ["alice", "bob", "carol", "dave"]


def is_open() -> bool:
    """Whether one click may sign a visitor in."""
    return settings.DEBUG


def demo_user(username: str) -> User | None:
    """The seeded user of this name, as long as the known password is theirs: the click gives nothing more than that."""
    if username not in USERS:
        return None
    user = authenticate(username=username, password=PASSWORD)
    return user if isinstance(user, User) else None
