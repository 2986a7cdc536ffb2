"""Rooms over HTTP: the services of the socket's commands, with the same refusals, and the events of one room."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.db import Error, models
from django.http import HttpRequest, HttpResponse

from orgrealtime.admission.handshake import check_request, narrow
from orgrealtime.admission.refusals import answer
from orgrealtime.chat import history, services
from orgrealtime.chat.commands import (
    MAX_MESSAGE_BYTES,
    OF_DELETING,
    OF_EDITING,
    OF_REACTING,
    OF_SENDING,
    given,
)
from orgrealtime.chat.errors import HTTP_STATUS, ChatError, forbidden
from orgrealtime.chat.lookup import can_be_asked_later, own_room_named, room_named, unavailable
from orgrealtime.chat.models import Message, Room
from orgrealtime.chat.rooms import summary_of
from orgrealtime.errors import MessageError
from orgrealtime.protocol import wire
from orgrealtime.stream import Access
from orgrealtime.stream.database import alias
from orgrealtime.views import CatchUpView, WritingView, refusing

Members = dict[str, Any]
OF_CREATING = ("kind", "name", "slug", "members", "history")
POSITIONS = ("before", "after", "around")


def answering(respond: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Have a view find out who asks, and answer what the services refuse as the socket's commands do."""

    @functools.wraps(respond)
    def respond_or_refuse(view: ChatView, request: HttpRequest, org_slug: str, **kwargs: Any) -> HttpResponse:
        identity, view.organization, view.access = check_request(request, org_slug, view.allow)
        view.user = identity.user
        try:
            return respond(view, request, **kwargs)
        except MessageError as error:
            return _refusal(error)
        except Error as error:
            if not can_be_asked_later(error):
                raise
            return _refusal(unavailable())

    return refusing(respond_or_refuse)


def _refusal(error: MessageError) -> HttpResponse:
    status = HTTP_STATUS.get(error.code, HTTPStatus.BAD_REQUEST)
    about = {**error.details, "code": error.code, "message": str(error)}
    response = answer(status, msgspec.json.encode({"error": about})).response()
    if "retry_after_ms" in error.details:
        response.headers["Retry-After"] = str(math.ceil(error.details["retry_after_ms"] / 1000))
    return response


class ChatView(WritingView):
    """A view of rooms; `organization`, `access` and `user` are those of the request."""

    organization: models.Model
    user: Any

    @property
    def organization_id(self) -> Any:
        """The primary key of the organisation."""
        return self.access.organization_id

    def room(self, name: str) -> Room:
        """Return the room that stands in the URL; raise ChatError if the user may not see it."""
        return room_named(self.organization_id, self.user, name)

    def message_in(self, name: str, message_id: int) -> None:
        """Raise ChatError unless the room that stands in the URL has this message."""
        messages = Message.objects.using(alias()).filter(organization_id=self.organization_id)
        if not (message_id < 2**63 and messages.filter(room=self.room(name), pk=message_id).exists()):
            raise forbidden()

    def members(self, request: HttpRequest) -> Members:
        """Return the JSON object that a request brings; raise MessageError for anything else."""
        try:
            body = request.body
        except RequestDataTooBig:
            raise _too_long(int(request.headers.get("Content-Length") or 0)) from None
        if len(body) > MAX_MESSAGE_BYTES:
            raise _too_long(len(body))
        try:
            members: Any = wire.read_message(body.decode())
        except UnicodeDecodeError:
            members = None
        if not isinstance(members, dict):
            raise MessageError("the body is one JSON object in UTF-8")
        return members


def _too_long(size: int) -> ChatError:
    return ChatError(
        "too_long",
        f"the body has {size} bytes; at most {MAX_MESSAGE_BYTES} are allowed",
        limit=MAX_MESSAGE_BYTES,
        length=size,
        unit="bytes",
    )


def _json(status: int, body: Any) -> HttpResponse:
    return answer(status, msgspec.json.encode(body)).response()


def _nothing() -> HttpResponse:
    return HttpResponse(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})


class RoomsView(ChatView):
    """Answers `GET` with the rooms that the user may see; `POST` makes one, or opens a conversation of two people."""

    http_method_names = ["get", "head", "post", "options"]

    @answering
    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer with the rooms."""
        rooms = services.rooms_of(self.organization_id, self.user)
        return _json(HTTPStatus.OK, {"rooms": [each.as_json() for each in rooms]})

    @answering
    def post(self, request: HttpRequest) -> HttpResponse:
        """Make a room of a `kind`, with a `name`; of the kind `direct` with a `user`."""
        members = self.members(request)
        if members.get("kind") == Room.Kind.DIRECT:
            other = given(members, ("user",), "user")["user"]
            room = services.open_direct(self.organization_id, self.user, other)
        else:
            wanted = given(members, OF_CREATING, "kind", "name")
            room = services.create_room(self.organization_id, self.user, **wanted)
        return _json(HTTPStatus.CREATED, _room(self, room.pk))


class RoomView(ChatView):
    """Answers `GET` with one room; `PATCH` changes it if it is at the version of `If-Match`."""

    http_method_names = ["get", "head", "patch", "options"]

    @answering
    def get(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Answer with the room."""
        return _with_etag(_room(self, self.room(room_slug).pk))

    @answering
    def patch(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Change `name`, `archived` or `slow_mode_seconds`."""
        room = self.room(room_slug)
        version = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
        if not (version.isascii() and version.isdigit() and len(version) <= 9):
            raise ChatError(
                "bad_request", "the header If-Match is the version of the room that is to be changed"
            )
        wanted = self.members(request)
        if not wanted:
            raise ChatError(
                "bad_request", "nothing is to be changed: give name, archived or slow_mode_seconds"
            )
        if unknown := sorted(set(wanted) - {"name", "archived", "slow_mode_seconds"}):
            raise ChatError("bad_request", f"a room has no {', '.join(unknown)[:200]} that could be changed")
        services.update_room(self.organization_id, self.user, room_id=room.pk, version=int(version), **wanted)
        return _with_etag(_room(self, room.pk))


def _room(view: ChatView, room_id: int) -> Members:
    return summary_of(services.find_room(view.organization_id, view.user, room_id=room_id)).as_json()


def _with_etag(room: Members) -> HttpResponse:
    response = _json(HTTPStatus.OK, room)
    response.headers["ETag"] = f'"{room["version"]}"'
    return response


class JoinView(ChatView):
    """Answers `POST`: the user becomes a member of the room."""

    http_method_names = ["post", "options"]

    @answering
    def post(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Join."""
        room = self.room(room_slug)
        services.join(self.organization_id, self.user, room_id=room.pk)
        return _json(HTTPStatus.OK, _room(self, room.pk))


class LeaveView(ChatView):
    """Answers `POST`: the user is a member of the room no more."""

    http_method_names = ["post", "options"]

    @answering
    def post(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Leave."""
        services.leave(self.organization_id, self.user, room_id=self.room(room_slug).pk)
        return _nothing()


class MemberView(ChatView):
    """Answers `PUT` and `DELETE` of who moderates a room: a user is in it, with a role, or isn't."""

    http_method_names = ["put", "delete", "options"]

    @answering
    def put(self, request: HttpRequest, room_slug: str, user_key: str) -> HttpResponse:
        """Add the user, or give a member the `role`."""
        room = self.room(room_slug)
        wanted = given(self.members(request) if request.body else {}, ("role",))
        about: Members = {"room_id": room.pk, "user": user_key}
        member = services.add_member(self.organization_id, self.user, **about, **wanted)
        if "role" in wanted and member.role != wanted["role"]:
            services.set_role(self.organization_id, self.user, **about, **wanted)
        return _nothing()

    @answering
    def delete(self, request: HttpRequest, room_slug: str, user_key: str) -> HttpResponse:
        """Remove the user."""
        room = self.room(room_slug)
        services.remove_member(self.organization_id, self.user, room_id=room.pk, user=user_key)
        return _nothing()


class MessagesView(ChatView):
    """Answers `GET …?before=|after=|around=&limit=` with a page of a room's history; `POST` says something there."""

    http_method_names = ["get", "head", "post", "options"]

    @answering
    def get(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Answer with the newest messages, or with those before, after or around a position."""
        about = {
            name: _number(name, request.GET[name]) for name in (*POSITIONS, "limit") if name in request.GET
        }
        room = self.room(room_slug)
        page = history.read(self.organization_id, self.user, room_id=room.pk, **about)
        return _json(HTTPStatus.OK, {"room": room.pk, **page.as_json()})

    @answering
    def post(self, request: HttpRequest, room_slug: str) -> HttpResponse:
        """Say something; 201, or 200 for what had been said already with the same `client_message_id`."""
        room = self.room(room_slug)
        wanted = given(self.members(request), OF_SENDING, "body")
        sent = services.send(self.organization_id, self.user, room_id=room.pk, **wanted)
        status = HTTPStatus.OK if sent.duplicate else HTTPStatus.CREATED
        return _json(status, {**_shown(self, sent.message), "duplicate": sent.duplicate})


class MessageView(ChatView):
    """Answers `PATCH` and `DELETE` of one message."""

    http_method_names = ["patch", "delete", "options"]

    @answering
    def patch(self, request: HttpRequest, room_slug: str, message_id: int) -> HttpResponse:
        """Have it say something else."""
        self.message_in(room_slug, message_id)
        wanted = given({**self.members(request), "message_id": message_id}, OF_EDITING, "body")
        return _json(HTTPStatus.OK, _shown(self, services.edit(self.organization_id, self.user, **wanted)))

    @answering
    def delete(self, request: HttpRequest, room_slug: str, message_id: int) -> HttpResponse:
        """Leave nothing of it but its place; if it is at the version `?version=`, should one be given."""
        self.message_in(room_slug, message_id)
        version = _number("version", request.GET["version"]) if "version" in request.GET else None
        wanted = given({"message_id": message_id, "version": version}, OF_DELETING)
        services.delete(self.organization_id, self.user, **wanted)
        return _nothing()


class ReactionsView(ChatView):
    """Answers `POST` with an `emoji`, and `DELETE …?emoji=`: the user's reaction to a message."""

    http_method_names = ["post", "delete", "options"]

    @answering
    def post(self, request: HttpRequest, room_slug: str, message_id: int) -> HttpResponse:
        """Put it there."""
        return self._react(room_slug, {**self.members(request), "message_id": message_id, "on": True})

    @answering
    def delete(self, request: HttpRequest, room_slug: str, message_id: int) -> HttpResponse:
        """Take it away."""
        emoji = request.GET.get("emoji")
        return self._react(room_slug, {"emoji": emoji, "message_id": message_id, "on": False})

    def _react(self, room_slug: str, members: Members) -> HttpResponse:
        self.message_in(room_slug, members["message_id"])
        services.react(self.organization_id, self.user, **given(members, OF_REACTING, "emoji"))
        return _nothing()


def _shown(view: ChatView, message: Any) -> Members:
    return services.as_json(message, reader=view.user)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ChatError("bad_request", f"{name} is a whole number, not {text!r:.60}")
    return int(text)


class RoomCatchUpView(CatchUpView):
    """Answers as `CatchUpView` does, with the events of one room alone, for who is in it."""

    def let_in(self, request: HttpRequest, org_slug: str) -> tuple[models.Model, Access]:
        """Return organisation and access to the room in the path; raise Refused for who isn't in it."""
        organization, access = super().let_in(request, org_slug)
        return organization, narrow(access, self._topic)

    def _topic(self, access: Access) -> str | None:
        room = own_room_named(access, str(self.kwargs["room_slug"]))
        return None if room is None else room.topic
