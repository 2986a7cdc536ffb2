"""Every way in which access ends, as scripts for the site's environment: each has its own user."""

WAYS = ("removed", "demoted", "logged-out", "password", "expired", "disabled", "deleted")
LOGIN_SECONDS = 25.0  # that the login of "expired" lasts

# Arguments: the slugs of an organisation for all, and of one for "deleted". Prints [slug, pk, name, session] of each.
PREPARE = """
import datetime, json, sys, time
import django
django.setup()
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from tests.faults.endings import LOGIN_SECONDS, WAYS
from tracker.models import Membership, Organization
together, doomed = (Organization.objects.create(name=slug, slug=slug) for slug in sys.argv[1:3])
members = []
for way in WAYS:
    org = doomed if way == "deleted" else together
    user = User.objects.create(username=f"{together.slug}-{way}")
    Membership.objects.create(organization=org, user=user)
    client = Client()
    client.force_login(user)
    members.append([org.slug, user.pk, user.username, client.cookies["sessionid"].value])
end = timezone.now() + datetime.timedelta(seconds=LOGIN_SECONDS)
expiring = next(session for _, _, name, session in members if name.endswith("-expired"))
Session.objects.filter(session_key=expiring).update(expire_date=end)
print(json.dumps([time.monotonic() + LOGIN_SECONDS, members]))
"""

# Arguments: what PREPARE had, and the session of "logged-out". Prints when each access ended, by the rig's clock.
END = """
import json, sys, time
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from tracker.models import Membership, Organization
slug, doomed, session = sys.argv[1:4]
user = {way: User.objects.get(username=f"{slug}-{way}") for way in ("removed", "demoted", "password", "disabled")}
ended = {}
def end(way, work):
    work()
    ended[way] = time.monotonic()
def demote():
    membership = Membership.objects.get(user=user["demoted"])
    membership.role = "guest"
    membership.save()
def log_out():
    client = Client()
    client.cookies["sessionid"] = session
    assert client.post("/accounts/logout/", HTTP_HOST="127.0.0.1").status_code == 302
def change_password():
    user["password"].set_password("another")
    user["password"].save()
def disable():
    user["disabled"].is_active = False
    user["disabled"].save()
end("removed", Membership.objects.get(user=user["removed"]).delete)
end("demoted", demote)
end("logged-out", log_out)
end("password", change_password)
end("disabled", disable)
end("deleted", Organization.objects.get(slug=doomed).delete)
print(json.dumps(ended))
"""
