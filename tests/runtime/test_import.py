"""What `import xai_deploy` brings along: a process that explains one image should not wait for what it does not use."""

import subprocess
import sys

_LATE = (
    *("argparse", "csv", "difflib", "email", "html", "importlib.metadata", "subprocess", "tomllib", "urllib.request"),
    *("onnxruntime", "openvino", "cv2", "zipfile"),
    # each is needed by some processes: those that open graphs, read image files, or export
    *("xai_deploy.exported.entry", "xai_deploy.format.guard", "xai_deploy.images.decoding", "xai_deploy.images.header"),
)


def test_heavy_modules_come_late() -> None:
    """`-S`: a `.pth` file of the environment may import some of them itself."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import xai_deploy; print([m for m in {_LATE} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
