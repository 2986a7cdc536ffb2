"""The example's settings, with little patience for clients that don't read."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["SEND_TIMEOUT_SECONDS"] = 5
