"""Procedural pictures and their captions: what `ordu-tiny` is trained on.

A picture shows one shape in one colour and one size at one place on a plain background of another colour, 64x64 pixels. A *combination* is
the five-tuple of attributes (colour, shape, place, size, background); there are 8 * 4 * 5 * 2 * 7 = 2240 of them. A tenth is held out from
training and used for the gates. Position and radius are jittered, so one combination has many pictures.

All drawing is analytic: a shape is a predicate over points, evaluated on a grid four times finer in each direction and averaged.
"""

import random

import numpy as np

SIZE = 64
SUPERSAMPLE = 4

# Name -> RGB. The smallest distance between two of them is about 140 (of 255 * sqrt(3)), so that the nearest colour is never in doubt.
PALETTE = {
    "red": (230, 40, 40),
    "green": (30, 170, 60),
    "blue": (30, 60, 220),
    "yellow": (245, 220, 50),
    "purple": (200, 40, 210),
    "cyan": (40, 210, 230),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
}
COLOURS = list(PALETTE)
RGB = np.array([PALETTE[name] for name in COLOURS], dtype=np.float32)

SHAPES = ["circle", "square", "triangle", "cross"]

# Name -> centre (x, y) in pixels. The centroid of every shape is drawn there.
ANCHORS = {
    "center": (32.0, 32.0),
    "top left": (20.0, 20.0),
    "top right": (44.0, 20.0),
    "bottom left": (20.0, 44.0),
    "bottom right": (44.0, 44.0),
}
PLACES = list(ANCHORS)
PLACE_XY = np.array([ANCHORS[name] for name in PLACES], dtype=np.float32)
PLACE_JITTER = 1.5

SIZES = ["small", "large"]
RADII = np.array([(8.5, 10.0), (13.5, 15.5)], dtype=np.float32)

# Proportions relative to the radius r; see `inside`.
SQUARE_HALF_SIDE = 0.88
TRIANGLE_CIRCUMRADIUS = 1.2
CROSS_ARM = 1.1
CROSS_HALF_WIDTH = 0.36
# Area of each shape divided by r * r, in the order of SHAPES.
AREA = np.array([
    np.pi,
    (2 * SQUARE_HALF_SIDE) ** 2,
    3 * np.sqrt(3) / 4 * TRIANGLE_CIRCUMRADIUS ** 2,
    8 * CROSS_ARM * CROSS_HALF_WIDTH - 4 * CROSS_HALF_WIDTH ** 2,
])


def inside(shape, dx, dy, radius):
    """Whether points at (dx, dy) from the centroid (y downwards) lie in the shape. Arrays broadcast."""
    if shape == "circle":
        return dx * dx + dy * dy <= radius * radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) <= SQUARE_HALF_SIDE * radius
    if shape == "triangle":  # equilateral, one corner up, centroid at the origin
        circum = TRIANGLE_CIRCUMRADIUS * radius
        return (dy <= circum / 2) & (np.sqrt(np.float32(3.0)) * np.abs(dx) - dy <= circum)
    if shape == "cross":  # upright, like a plus sign
        ax, ay = np.abs(dx), np.abs(dy)
        return (np.maximum(ax, ay) <= CROSS_ARM * radius) & (np.minimum(ax, ay) <= CROSS_HALF_WIDTH * radius)
    raise ValueError(shape)


def coverage(shape, cx, cy, radius, size=SIZE, supersample=SUPERSAMPLE):
    """How much of each pixel the shape covers, 0..1, (n, size, size), for arrays cx, cy, radius of length n."""
    cx, cy, radius = (np.asarray(a, dtype=np.float32).reshape(-1, 1, 1) for a in (cx, cy, radius))
    points = (np.arange(size * supersample, dtype=np.float32) + 0.5) / supersample
    hits = inside(shape, points[None, None, :] - cx, points[None, :, None] - cy, radius)
    hits = hits.reshape(-1, size, supersample, size, supersample)
    return hits.mean(axis=(2, 4), dtype=np.float32)


def combinations():
    """All (colour, shape, place, size, background) as an (2240, 5) array of indices."""
    return np.array([
        (c, s, p, z, b)
        for c in range(8) for s in range(4) for p in range(5) for z in range(2) for b in range(8) if b != c
    ])


def split():
    """(training, held_out): the fixed split of the combinations, nine tenths to one tenth."""
    every = combinations()
    order = np.random.RandomState(20240607).permutation(len(every))
    cut = len(every) // 10
    return every[order[cut:]], every[order[:cut]]


def draw(records, rng, size=SIZE):
    """Pictures of the attribute records (n, 5), jittered by `rng` (numpy Generator): uint8 (n, size, size, 3).

    A larger picture shows the same, larger: what is said of places and radii holds for the whole picture as 64 units.
    """
    records = np.asarray(records)
    n, scale = len(records), np.float32(size / SIZE)
    xy = PLACE_XY[records[:, 2]] + rng.uniform(-PLACE_JITTER, PLACE_JITTER, (n, 2)).astype(np.float32)
    low, high = RADII[records[:, 3], 0], RADII[records[:, 3], 1]
    radius = low + (high - low) * rng.random(n, dtype=np.float32)
    out = np.empty((n, size, size, 3), dtype=np.uint8)
    for s, shape in enumerate(SHAPES):
        for chunk in np.array_split(np.nonzero(records[:, 1] == s)[0], max(1, n * size * size // (512 * SIZE * SIZE))):
            if len(chunk) == 0:
                continue
            cover = coverage(shape, xy[chunk, 0] * scale, xy[chunk, 1] * scale, radius[chunk] * scale, size)[..., None]
            fore = RGB[records[chunk, 0]][:, None, None, :]
            back = RGB[records[chunk, 4]][:, None, None, :]
            out[chunk] = np.rint(back + (fore - back) * cover).astype(np.uint8)
    return out


def to_signed(pictures):
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) in -1..1, what the autoencoder sees."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1.0


# ---------------------------------------------------------------------------------------------------------------- captions

_COLOUR_WORDS = {"purple": ["purple", "purple", "purple", "magenta"]}
_SIZE_WORDS = {"small": ["small", "small", "small", "little"], "large": ["large", "large", "large", "big"]}
_CENTER_WORDS = ["center", "center", "center", "centre", "middle"]
_SHAPE_WORDS = {"circle": ["circle"] * 5 + ["disc"], "cross": ["cross"] * 5 + ["plus"]}


def full_caption(record):
    """The one canonical sentence that names every attribute: what the gates ask for."""
    c, s, p, z, b = (int(v) for v in record)
    return f"a {SIZES[z]} {COLOURS[c]} {SHAPES[s]} at the {PLACES[p]} on a {COLOURS[b]} background"


def random_caption(record, rnd=random):
    """A sentence about a record in varying words; sometimes silent about size, place or background."""
    c, s, p, z, b = (int(v) for v in record)
    if rnd.random() < 0.35:
        return full_caption(record)
    word = lambda table, name: rnd.choice(table.get(name, [name]))
    colour, back = word(_COLOUR_WORDS, COLOURS[c]), word(_COLOUR_WORDS, COLOURS[b])
    shape = word(_SHAPE_WORDS, SHAPES[s])
    size = word(_SIZE_WORDS, SIZES[z]) if rnd.random() < 0.75 else ""
    place = ""
    if rnd.random() < 0.75:
        place = rnd.choice(_CENTER_WORDS) if PLACES[p] == "center" else PLACES[p]
    ground = rnd.random() < 0.85
    thing = " ".join(w for w in (size, colour, shape) if w)
    style = rnd.random()
    if style < 0.45:  # a sentence
        text = rnd.choice(["a ", "a ", "a ", "one ", "a picture of a "]) + thing
        if place:
            text += rnd.choice([" at the ", " at the ", " in the "]) + place
        if ground:
            text += rnd.choice([" on a {} background", " on a {} background", " on {}", " in front of a {} background"]).format(back)
    elif style < 0.75:  # tags
        parts = [thing] + ([place] if place else []) + ([f"{back} background"] if ground else [])
        if rnd.random() < 0.3:
            rnd.shuffle(parts)
        text = ", ".join(parts)
    elif style < 0.9:  # short
        text = thing + (f" {place}" if place else "") + (f" on {back}" if ground else "")
    else:  # the background first
        text = (f"a {back} background with " if ground else "") + f"a {thing}" + (f" at the {place}" if place else "")
    return text


def vocabulary():
    """Every word and mark that captions use (and a few spare ones), in a fixed order."""
    words = COLOURS + ["magenta"] + SHAPES + ["disc", "plus"] + SIZES + ["little", "big"]
    words += ["center", "centre", "middle", "top", "bottom", "left", "right"]
    words += ["background", "picture", "a", "an", "one", "the", "of", "at", "in", "on", "with", "and", "front", ",", "."]
    return words
