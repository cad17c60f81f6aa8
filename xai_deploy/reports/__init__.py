"""The look of the commands' reports: one self-contained HTML page each, without scripts, that loads nothing.

Here are the frame, the charts, the thumbnails and the templates. The facts of a report are prepared in the room that has them:
`evaluation/report.py`, `agreement/report.py`, `cli/explain_report.py`.
"""

from .page import Origin, render, require
from .thumbnails import thumbnail

__all__ = ["Origin", "render", "require", "thumbnail"]
