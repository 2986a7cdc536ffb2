"""The example's settings with few connections for each user."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["CONNECTIONS_PER_USER"] = 10
