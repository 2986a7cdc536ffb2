"""The example's settings, in a process that finds nothing by polling."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["POLL_SECONDS"] = ORGREALTIME["IDLE_POLL_SECONDS"] = 3600
