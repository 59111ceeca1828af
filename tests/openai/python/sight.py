"""A trip of OpenAI's Python package, as published, through a horde with a worker that looks at pictures.

    python sight.py http://127.0.0.1:7001

The worker stands in front of `seer.py`, which names the colours of pictures.
"""

import base64
import io
import sys
import time
import traceback

from openai import OpenAI
from PIL import Image

# How long the worker may take to look for its first job, in seconds.
PATIENCE = 60.0
CLIENT = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="0000000000", max_retries=0, timeout=120)


def seeing_model() -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for model in CLIENT.models.list():
            if model.model_extra and model.model_extra.get("vision"):
                return model.id
        time.sleep(1)
    raise AssertionError("no model sees")


def picture(colour: str) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def sight() -> None:
    """A conversation is about a picture"""
    model = seeing_model()

    def asked(colour: str) -> dict[str, object]:
        parts = [picture(colour), {"type": "text", "text": "Which colour?"}]
        return {"model": model, "messages": [{"role": "user", "content": parts}]}

    whole = CLIENT.chat.completions.create(**asked("#e62828"))
    assert whole.choices[0].message.content == "red", whole
    time.sleep(1)
    chunks = CLIENT.chat.completions.create(**asked("#1e3cdc"), stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece for piece in pieces if piece) == "blue", pieces


try:
    sight()
    print(f"ok python {sight.__doc__}", flush=True)
except Exception:
    print(f"FAILED python {sight.__doc__}\n{traceback.format_exc()}", flush=True)
    sys.exit(1)
