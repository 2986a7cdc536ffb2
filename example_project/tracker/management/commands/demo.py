import errno
import socket
from typing import Any

import uvicorn
from config.environment import is_loopback
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections


class Command(BaseCommand):
    help = "Prepare the database, create the demo's data and serve it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", default=8000, type=int, help="port to listen on (default: %(default)s)")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        listener = listen(host, port)
        if settings.DEBUG and not is_loopback(host):
            self.stderr.write(
                f"{host} can be reached from elsewhere, where nobody is answered as long as DEBUG is on. For others: "
                f"DEBUG=off, a SECRET_KEY of your own, and their names for this computer in ALLOWED_HOSTS."
            )
        call_command("migrate", verbosity=0)
        call_command("seed_demo")
        connections.close_all()
        self.stdout.write(f"Open http://{host}:{port}/ in two browsers, as alice and as bob. Ctrl-C stops.")
        config = uvicorn.Config(
            "config.asgi:application",
            ws="websockets-sansio",
            # Compression costs some 40 KiB of memory per socket and gains little on messages this short.
            ws_per_message_deflate=False,
            # Reached directly: whoever names another address in a header isn't there.
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is done, so that one that is taken is all that is told."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Port {port} is taken: stop what listens there, or choose another by --port."
            ) from None
        raise CommandError(f"{host}:{port} can't be listened on: {error.strerror}.") from None
