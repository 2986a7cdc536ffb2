"""Pages and forms. They broadcast nothing: tracker.services publishes what happened."""

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_POST, require_safe
from exports.listing import shown_to

from orgrealtime import stream
from orgrealtime.chat import services as chat_services
from orgrealtime.errors import CursorError
from orgrealtime.protocol.cursors import Cursor
from tracker.access import member_required, refuse, wants_json
from tracker.models import Organization, Task
from tracker.pulse import pulse_of
from tracker.services import UnknownStatus, change_status
from tracker.texts import bell_texts, page_texts, room_texts

# The hues of people, those of the style sheet.
HUES = [265, 295, 180, 25, 60, 340]
TONES = len(HUES)


@cache_control(private=True, no_store=True)
@login_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    organizations = organizations_of(request)
    if len(organizations) == 1:
        return redirect("board", slug=organizations[0].slug)
    return render(request, "tracker/index.html", {"organizations": organizations})


@require_safe
@member_required
def board(request: HttpRequest, organization: Organization) -> HttpResponse:
    assert request.user.is_authenticated
    # Before the tasks are read: a change in between is delivered again rather than missed.
    position = stream.position(organization)
    tasks = tasks_of(organization)
    members = names_of_members(organization)
    exports = shown_to(request.user, organization)
    context = {
        "organization": organization,
        "cursor": position.cursor,
        "organizations": organizations_of(request),
        "columns": [
            {"status": status, "tasks": [task for task in tasks if task["status"] == status]}
            for status in Task.Status
        ],
        "people": [{"name": name, "tone": pk % TONES} for pk, name in members.items()],
        "exports": exports,
        "may_try_failure": settings.DEBUG,
        "texts": page_texts(),
        "bell_texts": bell_texts(),
        "page": {
            "organization": organization.name,
            "user": request.user.pk,
            "members": members,
            "exports": exports,
            "pulse": pulse_of(organization, request.user.pk, position.head),
            "urls": {
                "pulse": reverse("pulse", args=[organization.slug]),
                "tasks": reverse("tasks", args=[organization.slug]),
                "exports": reverse("exports", args=[organization.slug]),
            },
        },
    }
    return render(request, "tracker/board.html", context)


@require_safe
@member_required
def chat(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The rooms of which the user may know; `?room=` is the open one, by its slug, or its id if it has none."""
    assert request.user.is_authenticated
    position = stream.position(organization)
    members = names_of_members(organization)
    rooms = rooms_of(organization, request.user, members)
    wanted = request.GET.get("room", "general")
    context = {
        "organization": organization,
        "cursor": position.cursor,
        "organizations": organizations_of(request),
        "rooms": rooms,
        "open": next((room for room in rooms if room["slug"] == wanted), rooms[0] if rooms else None),
        "people": {
            pk: {"name": name, "color": f"oklch(50% 0.14 {HUES[pk % TONES]})"} for pk, name in members.items()
        },
        "texts": page_texts(),
        "bell_texts": bell_texts(),
        "room_texts": room_texts(),
        "page": {
            "organization": organization.name,
            "user": request.user.pk,
            "members": members,
            "tasks": dict(organization.tasks.values_list("pk", "title")),
            "statuses": {status.value: str(status.label) for status in Task.Status},
        },
    }
    return render(request, "tracker/chat.html", context)


@require_GET
@member_required
def tasks(request: HttpRequest, organization: Organization) -> JsonResponse:
    """What the page fetches when it can't tell what it has missed."""
    return JsonResponse({"tasks": tasks_of(organization), "members": names_of_members(organization)})


@require_GET
@member_required
def pulse(request: HttpRequest, organization: Organization) -> HttpResponse:
    """What has happened up to a cursor, after which the page counts by itself."""
    assert request.user.is_authenticated
    try:
        until = Cursor.parse(request.GET.get("until"))
    except CursorError as error:
        return refuse(request, HTTPStatus.BAD_REQUEST, "bad_request", str(error))
    return JsonResponse({"pulse": pulse_of(organization, request.user.pk, until.seq)})


@require_POST
@member_required
def task_status(request: HttpRequest, organization: Organization, task_id: int) -> HttpResponse:
    assert request.user.is_authenticated
    try:
        task = Task.objects.select_related("organization").get(pk=task_id, organization=organization)
        task = change_status(task, request.POST.get("status", ""), request.user)
    except Task.DoesNotExist:
        return refuse(request, HTTPStatus.NOT_FOUND, "not_found", _("There is no such task."))
    except UnknownStatus as error:
        return refuse(request, HTTPStatus.BAD_REQUEST, "bad_status", str(error))
    if wants_json(request):
        return JsonResponse({"task_id": task.pk, "status": task.status})
    return HttpResponseRedirect(reverse("board", args=[organization.slug]), status=HTTPStatus.SEE_OTHER)


def organizations_of(request: HttpRequest) -> list[Organization]:
    assert request.user.is_authenticated
    return list(Organization.objects.filter(memberships__user=request.user))


def rooms_of(organization: Organization, user: User, members: dict[int, str]) -> list[dict[str, Any]]:
    """The rooms as the page lists them; that of two people has the name of the other."""
    return [
        {
            "id": each.room.pk,
            "slug": each.room.slug or str(each.room.pk),
            "kind": each.room.kind,
            "name": each.room.name
            or ", ".join(members.get(int(pk), _("A former member")) for pk in each.people if pk != user.pk),
        }
        for each in chat_services.rooms_of(organization, user)
    ]


def tasks_of(organization: Organization) -> list[dict[str, Any]]:
    return [
        {
            "id": task.pk,
            "title": task.title,
            "status": task.status,
            "updated_at": task.updated_at,
            "url": reverse("task-status", args=[organization.slug, task.pk]),
        }
        for task in organization.tasks.all()
    ]


def names_of_members(organization: Organization) -> dict[int, str]:
    members = User.objects.filter(memberships__organization=organization).order_by("pk")
    return {user.pk: user.get_full_name() or user.get_username() for user in members}
