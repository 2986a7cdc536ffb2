"""Publish one event from the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orgrealtime import publish
from orgrealtime.delivery import bell
from orgrealtime.management.arguments import find_organization, find_users


class Command(BaseCommand):
    """`orgrealtime_publish <org_slug> <type> '<json>'`: publishes and prints the event's id."""

    help = "Publish an event to an organisation and print its id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("org_slug")
        parser.add_argument("type")
        parser.add_argument("payload", help="a JSON object")
        parser.add_argument(
            "--to", nargs="+", metavar="USERNAME", help="only for these users (default: all members)"
        )
        parser.add_argument("--dedupe-key", help="publish only if this key is new to the organisation")

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish, and see that the ring is out before the process ends."""
        organization = find_organization(options["org_slug"])
        try:
            payload = json.loads(options["payload"])
            event = publish(
                organization,
                options["type"],
                payload,
                to=None if options["to"] is None else find_users(options["to"]),
                dedupe_key=options["dedupe_key"],
            )
        except (json.JSONDecodeError, RecursionError) as error:
            raise CommandError(f"the payload isn't JSON: {error}") from None
        except ValueError as error:
            raise CommandError(str(error)) from None
        bell.flush()
        self.stdout.write(str(event.pk))
