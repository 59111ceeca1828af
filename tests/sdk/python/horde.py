"""What every trip needs: the SDK pointed at the server, two users, and a look at the wire."""

import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from loguru import logger
from PIL import Image

# Must be there: without it the SDK would talk to the public horde.
URL = os.environ["AI_HORDE_URL"].removesuffix("/api/")
logger.remove()

# The SDK reads its settings, and logs, while it is imported.
from horde_sdk.ai_horde_api.ai_horde_clients import (  # noqa: E402
    AIHordeAPIManualClient,
    AIHordeAPISimpleClient,
)
from horde_sdk.ai_horde_api.exceptions import RC  # noqa: E402
from horde_sdk.generic_api.apimodels import RequestErrorResponse  # noqa: E402

NOBODY = "00000000-0000-4000-8000-000000000000"
ANONYMOUS = "0000000000"
# The SDK refuses keys of another length before it asks.
UNKNOWN_KEY = "unknown-unknown-unknow"
# How long a worker here waits for a job, in seconds.
PATIENCE = 20.0

Colour = tuple[int, int, int]
RED, GREEN = (255, 0, 0), (0, 255, 0)

CLIENT = AIHordeAPIManualClient()
SIMPLE = AIHordeAPISimpleClient()


def wire(method: str, path: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
    """A call without the SDK: status and body as they came."""
    request = urllib.request.Request(f"{URL}/api/v2{path}", method=method)
    if key:
        request.add_header("apikey", key)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def mint(name: str) -> str:
    """Makes a trusted user and returns its key."""
    user = {"username": name, "oauth_id": name, "trusted": True, "moderator": False, "kudos": 20000}
    status, minted = wire("POST", "/dev/test-user", body=user)
    assert status in (200, 201), minted
    return minted["api_key"]


def call(request: Any, answer: type[Any]) -> Any:
    """A call that succeeds."""
    got = CLIENT.submit_request(request, answer)
    assert isinstance(got, answer), f"{type(request).__name__}: {got}"
    return got


def refused(request: Any, answer: type[Any], code: str) -> str:
    """A call that is refused with a code; returns the message."""
    got = CLIENT.submit_request(request, answer)
    assert isinstance(got, RequestErrorResponse), f"{type(request).__name__}: {got}"
    assert got.rc == code, f"{got.rc}, wanted {code}: {got.message}"
    assert got.rc in list(RC), f"the SDK does not know {got.rc}"
    assert got.message
    return got.message


def upload(link: str, picture: bytes) -> None:
    request = urllib.request.Request(link, data=picture, method="PUT")
    request.add_header("Content-Type", "image/webp")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def webp(colour: Colour) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (512, 512), colour).save(target, "WEBP", lossless=True)
    return target.getvalue()


def shows(picture: Image.Image, colour: Colour) -> bool:
    """Whether a picture has a colour, as nearly as WebP keeps it."""
    seen = picture.convert("RGB").getpixel((5, 5))
    return all(abs(one - other) < 16 for one, other in zip(seen, colour, strict=True))


def waiting_for(what: str, look: Callable[[], Any]) -> Any:
    """Looks until something is there: a worker's poll."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {PATIENCE} s")


ASKER, OWNER = mint("sdk asker"), mint("sdk owner")
