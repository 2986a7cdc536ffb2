"""All ways to read an organisation's stream and its rooms, for the server's sockets and for Django's URLs."""

from orgrealtime.chat.routing import routes

websocket, http = routes()
