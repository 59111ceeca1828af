"""Pictures that scan: QR symbols over the scenes of `pictures.py`, and the maps of them that the QR workflow shows its control network.

Modules are 8 pixels wide and lie on the cells of the latents, as the engine places them for `ordu-tiny`. Light modules are the scene's colours
lightened, dark modules the same darkened, so that a picture still shows what its prompt says.
"""

import cv2
import numpy as np
import qrcode

MODULE = 8
BORDER = 1
FINDER = 7
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
LIGHT, DARK = 205, 55  # luma: no light module is darker, no dark module lighter
WAYS = ["full", "modules", "finders"]


def symbol(text):
    """(modules, finders): boolean (n, n) with the border, True where dark and where one of the three finders is."""
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_H, border=BORDER, box_size=1)
    code.add_data(text)
    code.make(fit=True)
    modules = np.array(code.get_matrix(), dtype=bool)
    finders, last = np.zeros_like(modules), len(modules) - BORDER
    for rows, columns in [((BORDER, BORDER + FINDER),) * 2, ((BORDER, BORDER + FINDER), (last - FINDER, last)), ((last - FINDER, last), (BORDER, BORDER + FINDER))]:
        finders[slice(*rows), slice(*columns)] = True
    return modules, finders


def random_symbols(count, rng):
    """Symbols of random texts, versions 1 to 3."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789/.:-"))
    return [symbol("".join(rng.choice(letters, size=int(rng.integers(4, 25))))) for _ in range(count)]


def in_place(one, size, x, y, way):
    """The map of a symbol at the cell (x, y), uint8 (size, size): black on white, grey (or white, for the finders alone) around."""
    modules, finders = one
    shown = {"full": modules, "modules": modules & ~finders, "finders": modules & finders}[way]
    cells = size // MODULE
    level = np.full((cells, cells), 255 if way == "finders" else 128, dtype=np.uint8)
    side = len(modules)
    top, left, low, right = max(0, y), max(0, x), min(cells, y + side), min(cells, x + side)
    level[top:low, left:right] = np.where(shown, 0, 255)[top - y:low - y, left - x:right - x]
    return np.kron(level, np.ones((MODULE, MODULE), dtype=np.uint8))


def over(scene, level):
    """A scene with light and dark modules where its map is white and black: uint8 (size, size, 3)."""
    scene = scene.astype(np.float32)
    luma = scene @ LUMA
    lighter = np.clip((LIGHT - luma) / np.maximum(255 - luma, 1), 0, 1)[..., None]
    darker = np.clip(DARK / np.maximum(luma, 1), 0, 1)[..., None]
    level = level[..., None]
    out = np.where(level == 255, scene + (255 - scene) * lighter, np.where(level == 0, scene * darker, scene))
    return np.rint(out).astype(np.uint8)


def finder_mask(one, size, x, y):
    """Where the finders are, grown by 8 pixels and blurred, float32 (size, size) in 0..1."""
    _, finders = one
    mask = np.zeros((size, size), dtype=np.uint8)
    ys, xs = np.nonzero(np.kron(finders, np.ones((MODULE, MODULE), dtype=bool)))
    mask[ys + y * MODULE, xs + x * MODULE] = 255
    grown = cv2.dilate(mask, np.ones((17, 17), np.uint8))
    return cv2.GaussianBlur(grown, (33, 33), 3).astype(np.float32) / 255


def read(picture):
    """The text that OpenCV reads in a picture; "" if none."""
    found, _, _ = cv2.QRCodeDetector().detectAndDecode(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return found
