"""The example's settings with few connections for each user, and places of dead processes free again soon."""

import importlib

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["CONNECTIONS_PER_USER"] = 10
ORGREALTIME["MAX_HANDSHAKES"] = None  # more come at once, and wait as long as the machine needs

quotas = importlib.import_module("orgrealtime.admission.quotas")
quotas.KEEP_SECONDS, quotas.REFRESH_SECONDS = 8, 3.0
