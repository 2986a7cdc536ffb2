"""Pages and forms. They broadcast nothing: tracker.services publishes what happened."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST, require_safe

from orgrealtime import stream
from tracker.models import Organization, Task
from tracker.services import UnknownStatus, change_status

View = Callable[..., HttpResponse]


def member_required(view: View) -> View:
    """Pass on the organisation of the URL's slug if the user is a member of it.

    An organisation that doesn't exist gets the same answer as one the user isn't in: what exists is secret.
    """

    @wraps(view)
    def check(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        user = request.user
        if not user.is_authenticated:
            if wants_json(request):
                return refuse(request, HTTPStatus.UNAUTHORIZED, "unauthenticated", "Please sign in.")
            return redirect_to_login(reverse("board", args=[slug]))
        organization = Organization.objects.filter(slug=slug, memberships__user=user).first()
        if organization is None:
            return refuse(request, HTTPStatus.FORBIDDEN, "forbidden", "You are not a member here.")
        return view(request, organization, **kwargs)

    return check


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
    # Before the tasks are read: a change in between is delivered again rather than missed.
    cursor = stream.position(organization).cursor
    tasks = tasks_of(organization)
    context = {
        "organization": organization,
        "has_others": len(organizations_of(request)) > 1,
        "columns": [
            {"status": status, "tasks": [task for task in tasks if task["status"] == status]}
            for status in Task.Status
        ],
        "page": {
            "cursor": cursor,
            "user": request.user.pk,
            "members": names_of_members(organization),
            "socket": f"/ws/orgs/{organization.slug}/notifications/",
            "catchUp": reverse("orgrealtime:catch-up", args=[organization.slug]),
            "tasks": reverse("tasks", args=[organization.slug]),
        },
    }
    return render(request, "tracker/board.html", context)


@require_GET
@member_required
def tasks(request: HttpRequest, organization: Organization) -> JsonResponse:
    """What the page fetches when it can't tell what it has missed."""
    return JsonResponse({"tasks": tasks_of(organization), "members": names_of_members(organization)})


@require_POST
@member_required
def task_status(request: HttpRequest, organization: Organization, task_id: int) -> HttpResponse:
    assert request.user.is_authenticated
    try:
        task = Task.objects.select_related("organization").get(pk=task_id, organization=organization)
        task = change_status(task, request.POST.get("status", ""), request.user)
    except Task.DoesNotExist:
        return refuse(request, HTTPStatus.NOT_FOUND, "not_found", "There is no such task.")
    except UnknownStatus as error:
        return refuse(request, HTTPStatus.BAD_REQUEST, "bad_status", str(error))
    if wants_json(request):
        return JsonResponse({"task_id": task.pk, "status": task.status})
    return HttpResponseRedirect(reverse("board", args=[organization.slug]), status=HTTPStatus.SEE_OTHER)


def organizations_of(request: HttpRequest) -> list[Organization]:
    assert request.user.is_authenticated
    return list(Organization.objects.filter(memberships__user=request.user))


def tasks_of(organization: Organization) -> list[dict[str, Any]]:
    return [
        {
            "id": task.pk,
            "title": task.title,
            "status": task.status,
            "url": reverse("task-status", args=[organization.slug, task.pk]),
        }
        for task in organization.tasks.all()
    ]


def names_of_members(organization: Organization) -> dict[int, str]:
    members = User.objects.filter(memberships__organization=organization)
    return {user.pk: user.get_full_name() or user.get_username() for user in members}


def wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def refuse(request: HttpRequest, status: HTTPStatus, code: str, message: str) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"error": {"code": code, "message": message}}, status=status)
    return render(request, "error.html", {"title": status.phrase, "message": message}, status=status)
