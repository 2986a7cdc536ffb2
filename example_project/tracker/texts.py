"""What the scripts of the page say, in the language of the request. Names in braces are filled in by the page."""

import json
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import pgettext


def page_texts() -> dict[str, Any]:
    return {
        "you": _("You"),
        "system": _("System"),
        "formerMember": _("A former member"),
        "moved": _("moved {task} to {place}"),
        "movedMine": pgettext("said of oneself", "moved {task} to {place}"),
        "aTask": _("a task"),
        "quoted": _("“{title}”"),
        "moveTo": _("Move {title} to"),
        "exported": _("exported the tasks"),
        "exportedMine": pgettext("said of oneself", "exported the tasks"),
        "exportFailed": _("{name}’s export failed"),
        "exportFailedMine": _("Your export failed"),
        "exportOf": _("{name}’s export"),
        "exportMine": _("Your export"),
        "exportFailure": _("The export failed. Please try again."),
        "waiting": _("Waiting…"),
        "download": _("Download"),
        "dismiss": _("Dismiss"),
        "news": {"one": _("{count} thing happened"), "other": _("{count} things happened")},
        "events": {"one": _("event"), "other": _("events")},
        "hours": {
            "one": _("{count} event in the last 24 hours"),
            "other": _("{count} events in the last 24 hours"),
        },
        "minutes": {
            "one": _("{count} event in the last 60 minutes"),
            "other": _("{count} events in the last 60 minutes"),
        },
        "now": _("now"),
        "notMoved": _("The task was not moved."),
        "unreachable": _("The server can’t be reached."),
        "refused": _("That didn’t work. Reload the page and try again."),
        "retryIn": _("in {seconds} s"),
        "states": {**states(), "polling": _("Polling")},
        "banners": {
            "lost": _("The connection is lost. What you see may be out of date; it catches up by itself."),
            "offline": _("You are offline. What you see may be out of date; it catches up by itself."),
            "unauthenticated": _("You have been signed out, so this page has stopped."),
            "forbidden": _("You are no longer a member of {organization}. This page has stopped."),
            "stopped": _("Live updates have stopped. Reload the page to go on."),
        },
    }


def bell_texts() -> str:
    """What `<org-notifications texts="…">` says."""
    texts = {
        "title": _("Notifications"),
        "empty": _("Nothing yet"),
        "markAllRead": _("Mark all as read"),
        "markRead": _("Mark as read"),
        "close": _("Close"),
        "unavailable": _("The list can't be loaded. Try again, or reload the page."),
        "unread": _("{count} unread"),
        "news": {"one": _("{count} new notification"), "other": _("{count} new notifications")},
        "states": states(),
    }
    return json.dumps(texts)


def room_texts() -> str:
    """What `<org-room texts="…">` says."""
    texts = {
        "title": _("Messages"),
        "field": _("Write a message"),
        "send": _("Send"),
        "user": _("A former member"),
        "system": _("System"),
        "empty": _("Nothing has been said here yet."),
        "beginning": _("This is where the room begins."),
        "loading": _("Loading…"),
        "newMessages": _("New messages"),
        "news": _("New messages: {count}"),
        "latest": _("To the newest"),
        "deleted": _("This message was deleted."),
        "edited": _("edited"),
        "editing": _("You are editing a message."),
        "replying": _("Reply to {name}"),
        "cancel": _("Cancel"),
        "reply": _("Reply"),
        "edit": _("Edit"),
        "delete": _("Delete"),
        "confirm": _("Really delete?"),
        "react": _("React with {emoji}"),
        "pending": _("Sending…"),
        "retry": _("Try again"),
        "discard": _("Discard"),
        "typing": _("{names} is typing…"),
        "typingMany": _("{names} are typing…"),
        "others": _("{count} others"),
        "waiting": _("Not connected. What you write is sent when the connection is back."),
        "offline": _("You are offline. What you write is sent when you are back."),
        "stopped": _("Live updates have stopped. Reload the page to go on."),
        "unauthenticated": _("You have been signed out, so this page has stopped."),
        "archived": _("This room is archived."),
        "forbidden": _("You have no access here."),
        "conflict": _("It has been changed meanwhile."),
        "too_long": _("A message has at most {limit} characters."),
        "rate_limited": _("Too many messages. This one is sent in {seconds} s."),
        "slow_mode": _("This room is slow. This message is sent in {seconds} s."),
        "unavailable": _("The server can’t be reached. It is tried again."),
    }
    return json.dumps(texts)


def states() -> dict[str, str]:
    return {
        "connecting": _("Connecting…"),
        "catching-up": _("Catching up…"),
        "live": _("Live"),
        "stuck": _("Not responding"),
        "waiting": _("Reconnecting"),
        "offline": _("Offline"),
        "unauthenticated": _("Signed out"),
        "forbidden": _("No access"),
        "stopped": _("Stopped"),
    }
