"""The example's settings with few connections for each user."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME["CONNECTIONS_PER_USER"] = 10
ORGREALTIME["MAX_HANDSHAKES"] = None  # more come at once, and wait as long as the machine needs
