import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Before the imports below: they need the apps to be loaded.
django_application = get_asgi_application()

from exports.watchdog import watch  # noqa: E402

from orgrealtime.asgi import realtime  # noqa: E402
from orgrealtime.routing import websocket_urlpatterns  # noqa: E402

# The handler finds static files in the apps, with DEBUG off too: nothing to collect. Fit for a demo.
application = realtime(websocket_urlpatterns, http=ASGIStaticFilesHandler(django_application))

watch()
