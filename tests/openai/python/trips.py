"""Trips of OpenAI's Python package, as published, through a horde with its built-in models.

    python trips.py http://127.0.0.1:7001 [WORD]

With a WORD, only the trips that have it in their name. Each trip is a function whose documentation
is its name.
"""

import base64
import io
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable

import openai
from openai import OpenAI
from PIL import Image

URL = sys.argv[1]
ANONYMOUS = "0000000000"
# How long the built-in worker may take to look for its first job, in seconds.
PATIENCE = 60.0
# Between trips, in seconds: an address may ask twice a second at most.
PAUSE = 1.0
RED, BLUE = (230, 40, 40), (30, 60, 220)
PROMPT = "a large red circle at the center on a blue background"

CLIENT = OpenAI(base_url=f"{URL}/v1", api_key=ANONYMOUS, max_retries=0, timeout=120)


def near(pixel: tuple[int, ...], colour: tuple[int, int, int]) -> bool:
    return all(abs(one - other) < 60 for one, other in zip(pixel[:3], colour, strict=True))


def shows_circle(file: bytes, form: str) -> None:
    picture = Image.open(io.BytesIO(file))
    assert picture.format == form, picture.format
    assert picture.size == (64, 64), picture.size
    picture = picture.convert("RGB")
    assert near(picture.getpixel((32, 32)), RED), picture.getpixel((32, 32))
    assert near(picture.getpixel((2, 2)), BLUE), picture.getpixel((2, 2))


def models() -> list[str]:
    """The models of a horde are listed"""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        names = [model.id for model in CLIENT.models.list()]
        if "ordu-tiny" in names and any("ordu-tiny-text" in name for name in names):
            break
        time.sleep(0.5)
    assert "ordu-tiny" in names, names
    assert CLIENT.models.retrieve("ordu-tiny").owned_by == "horde"
    return names


def text_model() -> str:
    return next(model.id for model in CLIENT.models.list() if "ordu-tiny-text" in model.id)


def chat() -> None:
    """A conversation is answered"""
    answer = CLIENT.chat.completions.create(
        model=text_model(),
        messages=[{"role": "user", "content": "A red circle"}],
        temperature=0,
        max_tokens=40,
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content, answer
    assert choice.finish_reason in ("stop", "length"), answer
    assert answer.usage and answer.usage.completion_tokens > 0, answer


def chat_stream() -> None:
    """A conversation is answered word by word"""
    asked = {
        "model": text_model(),
        "messages": [{"role": "user", "content": "A red circle"}],
        "temperature": 0,
        "max_tokens": 400,
        # A story of its usual length is told before anybody can look on.
        "extra_body": {"ignore_eos": True},
    }
    options = {"include_usage": True}
    chunks = list(CLIENT.chat.completions.create(**asked, stream=True, stream_options=options))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    pieces = [piece for piece in pieces if piece]
    assert len(pieces) > 1, f"it came in one piece: {pieces}"
    usage = chunks[-1].usage
    assert usage and usage.completion_tokens > 0, chunks[-1]
    whole = CLIENT.chat.completions.create(**asked)
    assert "".join(pieces) == whole.choices[0].message.content, (pieces, whole)


def completions() -> None:
    """A text goes on, is cut where it should stop, and is as short as asked for"""
    whole = CLIENT.completions.create(
        model="any", prompt="A blue square", temperature=0, max_tokens=40
    )
    text = whole.choices[0].text
    word = text.split()[1]
    stopped = CLIENT.completions.create(
        model="any", prompt="A blue square", temperature=0, max_tokens=40, stop=word
    )
    assert stopped.choices[0].text == text[: text.index(word)], (text, stopped)
    assert stopped.choices[0].finish_reason == "stop"
    time.sleep(PAUSE)
    short = CLIENT.completions.create(
        model="any", prompt="A blue square", temperature=0, max_tokens=1
    )
    assert 0 < len(short.choices[0].text) <= 4, short
    assert short.choices[0].finish_reason == "length", short


def image() -> None:
    """A picture comes in the answer"""
    answer = CLIENT.images.generate(
        model="ordu-tiny", prompt=PROMPT, size="64x64", response_format="b64_json"
    )
    assert answer.data and answer.data[0].b64_json
    shows_circle(base64.b64decode(answer.data[0].b64_json), "PNG")


def image_link() -> None:
    """Pictures come as links"""
    answer = CLIENT.images.generate(prompt=PROMPT, size="64x64", n=2)
    assert answer.data and len(answer.data) == 2
    for picture in answer.data:
        with urllib.request.urlopen(picture.url) as got:
            shows_circle(got.read(), "WEBP")


def image_stream() -> None:
    """A picture is seen coming"""
    stream = CLIENT.images.generate(
        prompt=PROMPT, size="64x64", stream=True, partial_images=1, moderation="low"
    )
    events = list(stream)
    last = events[-1]
    assert last.type == "image_generation.completed", last
    shows_circle(base64.b64decode(last.b64_json), "PNG")


def edit() -> None:
    """A picture is made of another one"""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), BLUE).save(file, "PNG")
    answer = CLIENT.images.edit(
        image=("blue.png", file.getvalue(), "image/png"),
        prompt=PROMPT,
        size="64x64",
        response_format="b64_json",
    )
    assert answer.data and answer.data[0].b64_json
    shows_circle(base64.b64decode(answer.data[0].b64_json), "PNG")


def refusals() -> None:
    """What goes wrong is one of the package's own errors"""
    stranger = CLIENT.with_options(api_key="sk-nothing")
    for call, wanted, code in [
        (lambda: stranger.models.list(), openai.AuthenticationError, "invalid_api_key"),
        (lambda: CLIENT.models.retrieve("gpt-4o"), openai.NotFoundError, "model_not_found"),
        (
            lambda: CLIENT.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": "x"}],
                tools=[{"type": "function", "function": {"name": "f"}}],
            ),
            openai.BadRequestError,
            "unsupported_parameter",
        ),
    ]:
        try:
            call()
        except openai.APIStatusError as error:
            assert isinstance(error, wanted), error
            assert error.code == code, error
            assert error.message, error
        else:
            raise AssertionError(f"{code} was expected")


TRIPS: list[Callable[[], object]] = [
    models,
    chat,
    chat_stream,
    completions,
    image,
    image_link,
    image_stream,
    edit,
    refusals,
]


def main() -> int:
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    failed = 0
    for trip in TRIPS:
        name = trip.__doc__ or ""
        if word not in name:
            continue
        time.sleep(PAUSE)
        try:
            trip()
            print(f"ok python {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED python {name}\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
