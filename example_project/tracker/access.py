"""Who may see an organisation's pages, and how the others are refused."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import cache_control

from tracker.models import Organization

TITLES = {
    HTTPStatus.FORBIDDEN: gettext_lazy("Forbidden"),
    HTTPStatus.NOT_FOUND: gettext_lazy("Not found"),
    HTTPStatus.BAD_REQUEST: gettext_lazy("Bad request"),
}

View = Callable[..., HttpResponseBase]


def member_required(view: View) -> View:
    """Pass on the organisation of the URL's slug if the user is a member of it.

    An organisation that doesn't exist gets the same answer as one the user isn't in: what exists is secret.
    """

    @wraps(view)
    @cache_control(private=True, no_store=True)
    def check(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated:
            if wants_json(request):
                return refuse(request, HTTPStatus.UNAUTHORIZED, "unauthenticated", _("Please sign in."))
            return redirect_to_login(page_to_return_to(request, slug))
        organization = Organization.objects.filter(slug=slug, memberships__user=user).first()
        if organization is None:
            return refuse(request, HTTPStatus.FORBIDDEN, "forbidden", _("You are not a member here."))
        return view(request, organization, **kwargs)

    return check


def page_to_return_to(request: HttpRequest, slug: str) -> str:
    return request.get_full_path() if request.method in {"GET", "HEAD"} else reverse("board", args=[slug])


def wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def refuse(request: HttpRequest, status: HTTPStatus, code: str, message: str) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"error": {"code": code, "message": message}}, status=status)
    return render(
        request, "error.html", {"title": TITLES.get(status, status.phrase), "message": message}, status=status
    )
