from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from tracker.demo import PASSWORD, USERS
from tracker.history import make_history
from tracker.models import Membership, Organization, Task
from tracker.rooms import make_rooms, make_talk

ORGANIZATIONS = {
    "acme": {
        "name": "Acme",
        "members": ["alice", "bob", "dave"],
        "tasks": [
            ("Agree on the March release date", Task.Status.TODO),
            ("Write the customer survey report", Task.Status.TODO),
            ("Order new badges for the front desk", Task.Status.TODO),
            ("Move invoices to the new bank account", Task.Status.DOING),
            ("Fix the address form on the checkout page", Task.Status.DOING),
            ("Renew the office insurance", Task.Status.DONE),
        ],
    },
    "globex": {
        "name": "Globex",
        "members": ["carol", "dave"],
        "tasks": [
            ("Plan the warehouse stocktake", Task.Status.TODO),
            ("Translate the safety manual", Task.Status.TODO),
            ("Interview candidates for the night shift", Task.Status.DOING),
            ("Negotiate the freight contract", Task.Status.DOING),
            ("Replace the forklift battery", Task.Status.DONE),
        ],
    },
}


class Command(BaseCommand):
    help = "Create the demo's organisations, users, tasks, rooms and a day of their past; what exists stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-history", action="store_true", help="nothing has happened yet")

    def handle(self, *args: Any, no_history: bool, **options: Any) -> None:
        # Hashing is slow by design, so not while rows are locked.
        password = make_password(PASSWORD)
        with transaction.atomic():
            users = {
                name: User.objects.get_or_create(
                    username=name, defaults={"first_name": name.title(), "password": password}
                )[0]
                for name in USERS
            }
            for slug, wanted in ORGANIZATIONS.items():
                seed_organization(slug, wanted, users, has_history=not no_history)
        self.stdout.write(
            f"Users {', '.join(USERS)} with password {PASSWORD}, in {', '.join(ORGANIZATIONS)}."
        )


def seed_organization(
    slug: str, wanted: dict[str, Any], users: dict[str, User], *, has_history: bool
) -> None:
    organization, is_new = Organization.objects.get_or_create(slug=slug, defaults={"name": wanted["name"]})
    # A title isn't unique, so a second run at the same time has to wait here to see what this one adds.
    Organization.objects.select_for_update().get(pk=organization.pk)
    for name in wanted["members"]:
        Membership.objects.get_or_create(organization=organization, user=users[name])
    present = set(organization.tasks.values_list("title", flat=True))
    for title, status in reversed(wanted["tasks"]):
        if title not in present:
            organization.tasks.create(title=title, status=status)
    rooms = make_rooms(organization, users)
    if is_new and has_history:
        make_talk(organization, rooms, users)
        make_history(organization)  # the newest events of the board, of which its page shows some
