"""Judges pictures that should scan by OpenCV, which is not the scanner inside, and by their colours.

    cargo run -p ordu-engine --example scan -- FOLDER https://example.org/abc > drawn.jsonl
    python scan.py drawn.jsonl https://example.org/abc

A colour is kept when the mean of where it was asked for is nearer to that of its light and dark modules than to those of the other seven.
"""

import json
import re
import sys

import numpy as np
from PIL import Image

import pictures
import symbols


def means():
    """What each colour looks like from afar, half of its modules light and half dark, float32 (8, 3)."""
    flat = pictures.RGB[:, None].repeat(2, axis=1).astype(np.uint8)
    both = np.tile(np.array([0, 255], dtype=np.uint8), (8, 1))
    return symbols.over(flat, both).astype(np.float32).mean(axis=1)


def colour(pixels, table):
    """The colour whose tint is nearest: of light and dark in what measure is left to chance, so only differences of channels count."""
    tint = lambda rgb: np.concatenate([rgb - rgb.mean(-1, keepdims=True), 0.5 * rgb.mean(-1, keepdims=True)], axis=-1)
    return pictures.COLOURS[int(((tint(table) - tint(pixels.reshape(-1, 3).mean(0))) ** 2).sum(-1).argmin())]


def judge(picture, prompt, table):
    """(whether the shape's colour is kept, whether the background's is)"""
    wanted, place, ground = re.match(r"a \w+ (\w+) \w+ at the ([\w ]+) on a (\w+) background", prompt).groups()
    side = picture.shape[0] / pictures.SIZE
    x, y = (int(v * side) for v in pictures.ANCHORS[place])
    near = int(6 * side)
    inside = picture[y - near:y + near, x - near:x + near]
    ys, xs = np.mgrid[:picture.shape[0], :picture.shape[1]]
    outside = picture[np.hypot(xs - x, ys - y) > 22 * side]
    return colour(inside, table) == wanted, colour(outside, table) == ground


def main():
    drawn = [json.loads(line) for line in open(sys.argv[1])]
    table, text = means(), sys.argv[2]
    read = kept = ground = 0
    for one in drawn:
        picture = np.asarray(Image.open(one["file"]).convert("RGB"))
        found = symbols.read(picture)
        in_colour, on_ground = judge(picture.astype(np.float32), one["prompt"], table)
        read, kept, ground = read + (found == text), kept + in_colour, ground + on_ground
        print(found == text, in_colour, on_ground, "again" if one["again"] else "", one["prompt"])
    count = len(drawn)
    print(f"OpenCV reads {read} of {count}, our scanner {sum(bool(one['scans']) for one in drawn)}, {sum(one['again'] for one in drawn)} were finished twice")
    print(f"colour kept in {kept}, background in {ground}")


if __name__ == "__main__":
    main()
