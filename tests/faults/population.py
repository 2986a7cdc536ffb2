"""Who is a member where, and the script that makes them, logged in: its argument is the number of organisations.

Each organisation has 10 members: 7 of its own, one guest among them, and 3 who are members of others too. Of these one
is a guest here and a member there. Half of them, a guest too, are in the organisation's room.
"""

ROLES = {"member": None, "guest": frozenset({"note"})}  # the types that a role shows, None for all

SCRIPT = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from orgrealtime.chat import services
from tracker.models import Membership, Organization
count = int(sys.argv[1])
organizations = [Organization.objects.create(name=f"Org {number}", slug=f"org-{number}") for number in range(count)]
members = []
def join(number, user, session, role="member"):
    organization = organizations[number % count]
    Membership.objects.create(organization=organization, user=user, role=role)
    members.append([organization.slug, user.pk, user.username, session, role])
for number, organization in enumerate(organizations):
    for member in range(7):
        user = User.objects.create(username=f"{organization.slug}-user-{member}")
        client = Client()
        client.force_login(user)
        session = client.cookies["sessionid"].value
        join(number, user, session, "guest" if member == 6 else "member")
        if member in (0, 1):
            join(number + 1, user, session)
        if member == 1:
            join(number + 2, user, session, "guest")
for organization in organizations:
    users = list(User.objects.filter(memberships__organization=organization).order_by("pk"))[::2]
    services.create_room(organization, None, kind="private", name="Room", slug="room", members=users)
print(json.dumps(members))
"""
