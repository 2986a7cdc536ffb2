import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Before the imports below: they need the apps to be loaded.
django_application = get_asgi_application()

from exports.watchdog import watch  # noqa: E402

from config.routes import websocket  # noqa: E402
from config.static import StaticFiles  # noqa: E402
from orgrealtime.asgi import realtime  # noqa: E402

application = realtime(websocket, http=StaticFiles(django_application))

watch()
