"""The settings of the fault rig, with processes that soon count together again after they have met garbage."""

import importlib

from tests.faults.settings import *  # noqa: F403

importlib.import_module("orgrealtime.admission.quotas").TRY_AGAIN_SECONDS = 0.5
