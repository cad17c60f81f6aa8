"""Records of explanations: one line for each, chained by sha256, so that a change is found. Opt-in.

from xai_deploy.records import Recorder
with Recorder("records") as recorder:
    recorder.explained(explainer, explanation, [photo])
"""

from .facts import Deployed
from .reading import Place, records
from .record import Record
from .recorder import Recorder
from .statistics import Statistics
from .verification import ChainState, Fault, Kept, Verified, read_heads, verify

__all__ = [
    "ChainState",
    "Deployed",
    "Fault",
    "Kept",
    "Place",
    "Record",
    "Recorder",
    "Statistics",
    "Verified",
    "read_heads",
    "records",
    "verify",
]
