"""Drift of explanations: windows of records beside a reference, and alarms.

from xai_deploy.monitor import Length, Limits, judge, of_files
pairs, notes = of_files(Path("records"), Path("reference"))
windows, left_out = judge(pairs, Length(records=100), Limits())
"""

from .judging import Figure, Length, Limits, Window, judge
from .observations import Observed, of_files, read_recording, read_records

__all__ = [
    "Figure",
    "Length",
    "Limits",
    "Observed",
    "Window",
    "judge",
    "of_files",
    "read_recording",
    "read_records",
]
