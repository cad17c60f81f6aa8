"""What explanations cost compared with plain inference, in time and memory, on the runtime and settings that are deployed.

from xai_deploy.benchmark import benchmark
report = benchmark(["net.xai"], methods=["reciprocam", "grad-cam"], batches=[1, 4])
for result in report.results:
    print(result.method, result.batch, result.ratio)
"""

from .jobs import Job, Settings
from .memory import peak_memory
from .plot import plot
from .report import benchmark
from .results import LeftOut, Report, Result, Tested
from .timing import Summary, interleave, summarise

__all__ = [
    "Job",
    "LeftOut",
    "Report",
    "Result",
    "Settings",
    "Summary",
    "Tested",
    "benchmark",
    "interleave",
    "peak_memory",
    "plot",
    "summarise",
]
