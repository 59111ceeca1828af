"""Says what a picture shows, by image processing alone. `README.md` describes the algorithm step by step; the Rust tests repeat it."""

import numpy as np
from PIL import Image

import pictures

MIN_FOREGROUND = 40  # pixels; the smallest drawn shape covers about 130
BORDER = 2

_templates = {}


def _template(shape, cx, cy, radius):
    """Pixels whose centre lies in the shape."""
    points = np.arange(pictures.SIZE, dtype=np.float32) + 0.5
    return pictures.inside(shape, points[None, :] - cx, points[:, None] - cy, radius)


def reduced(picture):
    """A larger picture at 64x64: the mean of each block of pixels."""
    side, whole = pictures.SIZE, picture.shape[0] // pictures.SIZE
    if picture.shape[0] == side * whole:
        return picture.reshape(side, whole, side, whole, 3).mean(axis=(1, 3))
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def judge(picture):
    """uint8 (side, side, 3) -> dict of indices: background, colour, place, shape, size (-1 where nothing was found), and `iou`."""
    pixels = reduced(picture).astype(np.float32)
    distance = ((pixels[:, :, None, :] - pictures.RGB) ** 2).sum(-1)  # (64, 64, 8)
    nearest = distance.argmin(-1)
    border = np.ones(nearest.shape, dtype=bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    background = int(np.bincount(nearest[border], minlength=8).argmax())
    counts = np.bincount(nearest.ravel(), minlength=8)
    counts[background] = 0
    colour = int(counts.argmax())
    found = dict(background=background, colour=-1, place=-1, shape=-1, size=-1, iou=0.0)
    mask = distance[..., colour] < distance[..., background]
    area = int(mask.sum())
    if counts[colour] < MIN_FOREGROUND:
        return found
    found["colour"] = colour
    ys, xs = np.nonzero(mask)
    cx, cy = xs.mean() + 0.5, ys.mean() + 0.5
    found["place"] = int(((pictures.PLACE_XY - (cx, cy)) ** 2).sum(1).argmin())
    for s, shape in enumerate(pictures.SHAPES):
        template = _template(shape, np.float32(cx), np.float32(cy), np.float32(np.sqrt(area / pictures.AREA[s])))
        iou = (template & mask).sum() / (template | mask).sum()
        if iou > found["iou"]:
            found["iou"], found["shape"] = float(iou), s
    radius = np.sqrt(area / pictures.AREA[found["shape"]])
    found["size"] = int(radius > pictures.RADII[0, 1] / 2 + pictures.RADII[1, 0] / 2)
    return found


ATTRIBUTES = [("colour", 0), ("shape", 1), ("place", 2), ("size", 3), ("background", 4)]


def score(images, records):
    """Share of pictures that obey, per attribute and in all five: dict of 0..1."""
    verdicts = [judge(image) for image in images]
    right = {name: np.array([v[name] == r[column] for v, r in zip(verdicts, records)]) for name, column in ATTRIBUTES}
    right["all"] = np.logical_and.reduce(list(right.values()))
    return {name: float(values.mean()) for name, values in right.items()}


if __name__ == "__main__":  # the judge judged: on drawn pictures it must be right nearly always
    rng = np.random.default_rng(0)
    every = pictures.combinations()[rng.integers(2240, size=2000)]
    print(score(pictures.draw(every, rng), every))
