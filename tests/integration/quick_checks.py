"""The example's settings with regular access checks that come often."""

from config.settings import *  # noqa: F403
from config.settings import ORGREALTIME

ORGREALTIME |= {"ACCESS_CHECK_SECONDS": 0.5}
