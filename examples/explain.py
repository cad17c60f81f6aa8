"""Explain one image from Python, and get the answer as data, as a server would send it.

python examples/explain.py resnet50.xai cat.jpg overlay.png
"""

from __future__ import annotations

import json
import sys

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.answer import answer, origin, prediction


def main(bundle: str, image: str, overlay: str) -> None:
    """Explain the predicted class, write the overlay, and print the answer as JSON."""
    explainer = Explainer(bundle)
    picture = read_image(image)
    explanation = explainer.explain(picture, "reciprocam")
    write_image(overlay, explanation.overlay(picture)[0])
    document = {
        **origin(explainer),
        "prediction": prediction(explainer, explanation.logits[0]),
        "explanation": answer(explainer, explanation).as_json({"overlay": overlay}),
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
