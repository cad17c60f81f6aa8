"""A server that predicts and explains, from one run of the network's head per request.

BUNDLE=resnet50.xai uvicorn --app-dir examples serve:app      # pip install fastapi uvicorn
curl --data-binary @photo.jpg 'localhost:8000/explain?target=cat'
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from xai_deploy import Explainer, XaiError, read_image
from xai_deploy.answer import answer, prediction

app = FastAPI()
explainer = Explainer(os.environ["BUNDLE"])  # opened once; safe to call from several threads


@app.post("/explain")
async def explain(request: Request, target: str | None = None) -> dict[str, Any]:
    """Take an image file as the body; return the best classes, and the map of `target` (the predicted class by default)."""
    return await run_in_threadpool(explained, await request.body(), target)


def explained(image: bytes, target: str | None) -> dict[str, Any]:
    """Predict and explain one image; a bad image or target is the client's fault, in one line."""
    try:
        with tempfile.NamedTemporaryFile() as file:  # read_image judges the header before anything is decoded
            file.write(image)
            file.flush()
            explanation = explainer.explain(read_image(file.name, max_pixels=20_000_000), "reciprocam", target)
    except XaiError as error:
        raise HTTPException(422, str(error)) from None
    best = prediction(explainer, explanation.logits[0])
    return {"prediction": best, **answer(explainer, explanation).as_json(), "map": explanation.raw[0].tolist()}
