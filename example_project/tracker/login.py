"""The login page, with one click for each user of the demo as long as DEBUG is on."""

from http import HTTPStatus
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from tracker import demo
from tracker.access import refuse


class DemoLoginView(LoginView):
    def get_form(self, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(*args, **kwargs)
        if demo.is_open():
            # On a phone the page would begin below the users whom to click.
            form.fields["username"].widget.attrs.pop("autofocus", None)
        return form

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(demo_users=demo_users() if demo.is_open() else [], **kwargs)


def demo_users() -> list[dict[str, Any]]:
    users = User.objects.filter(username__in=demo.USERS, is_active=True)
    return [
        {
            "username": user.get_username(),
            "name": user.get_full_name() or user.get_username(),
            "tone": user.pk % 6,
            "organizations": [membership.organization.name for membership in user.memberships.all()],
        }
        for user in users.order_by("username").prefetch_related("memberships__organization")
    ]


@require_POST
def demo_login(request: HttpRequest) -> HttpResponse:
    user = demo.demo_user(request.POST.get("username", "")) if demo.is_open() else None
    if user is None:
        return refuse(request, HTTPStatus.NOT_FOUND, "not_found", _("There is no such demo user."))
    login(request, user)
    return HttpResponseRedirect(next_page(request))


def next_page(request: HttpRequest) -> str:
    wanted = request.POST.get("next", "")
    is_here = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if is_here else resolve_url("index")
