"""Draws what a worker sends in place of a picture that it withholds.

    python withheld.py ../crates/ordu-worker/assets

One file for each reason, 512x512, two colours, a few kilobytes.
"""

import pathlib
import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

REASONS = {
    "csam": "This picture was withheld and erased. Its kind is never made here.",
    "worker": "This picture was withheld. The worker that made it does not deliver adult content.",
    "request": "This picture was withheld. It turned out adult, and the request asked for none.",
    "list": "This picture was withheld. It turned out adult, and its prompt holds a word of the worker's censor list.",
}


def draw(text: str) -> Image.Image:
    picture = Image.new("L", (512, 512), 40)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(30)
    lines = textwrap.wrap(text, 28)
    top = 256 - 21 * len(lines)
    for number, line in enumerate(lines):
        width = pen.textlength(line, font=font)
        pen.text(((512 - width) / 2, top + 42 * number), line, fill=220, font=font)
    pen.rectangle((24, 24, 487, 487), outline=220, width=4)
    return picture.quantize(8)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    for name, text in REASONS.items():
        draw(text).save(folder / f"withheld-{name}.png", optimize=True)


main()
