"""Runs on the device, in an environment that holds numpy, one runtime, OpenCV and xai-deploy.

python device.py explain BUNDLE RUNTIME FOLDER MAPS.npz METHOD,METHOD...
python device.py check [what xai-check takes]
python device.py xai-explain [what xai-explain takes]

The last line that it prints is JSON: the most memory that the process held, in bytes, and the exit status.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def explain(bundle: str, runtime: str, folder: str, out: str, methods: str) -> int:
    """Explain the images of a folder one by one, as a camera would give them; keep the maps by image and method."""
    import numpy as np

    from xai_deploy import Explainer, read_image

    maps = {}
    with Explainer(bundle, runtime, threads=1, batch_size=1) as explainer:
        for path in sorted(Path(folder).iterdir()):
            for explanation in explainer.explain_many([read_image(path)], methods.split(",")):
                maps[f"{path.name} {explanation.method}"] = explanation.raw[0]
    np.savez(out, **maps)
    return 0


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "explain":
        status = explain(*arguments)
    elif what == "check":
        from xai_deploy.cli.check import main as check

        status = check(arguments)
    else:
        from xai_deploy.cli.explain import main as xai_explain

        status = xai_explain(arguments)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"peak": 1024 * int(lines["VmHWM"].split()[0]), "status": status}))


if __name__ == "__main__":
    main()
