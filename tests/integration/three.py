"""The example's settings, with little patience for clients that don't read, and few places."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["SEND_TIMEOUT_SECONDS"] = 2
ORGREALTIME["CONNECTIONS_PER_USER"] = 3
