"""Pictures that scan: QR symbols over the scenes of `pictures.py`, and the maps of them that the QR workflow shows its control network.

Modules are 8 pixels wide and lie on the cells of the latents, as the engine places them for `ordu-tiny`. Light modules are the scene's colours
lightened, dark modules the same darkened, so that a picture still shows what its prompt says.
"""

import cv2
import numpy as np
import qrcode
import torch

MODULE = 8
BORDER = 1
FINDER = 7
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
LIGHT, DARK = 205, 55  # luma: no light module is darker, no dark module lighter
WAYS = ["full", "modules", "finders"]


def symbol(text, border=BORDER):
    """(modules, finders): boolean (n, n) with the border, True where dark and where one of the three finders is."""
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_H, border=border, box_size=1)
    code.add_data(text)
    code.make(fit=True)
    modules = np.array(code.get_matrix(), dtype=bool)
    finders, last = np.zeros_like(modules), len(modules) - border
    for rows, columns in [((border, border + FINDER),) * 2, ((border, border + FINDER), (last - FINDER, last)), ((last - FINDER, last), (border, border + FINDER))]:
        finders[slice(*rows), slice(*columns)] = True
    return modules, finders


def random_symbols(count, rng, letters=(4, 25)):
    """Symbols of random texts of so many letters, versions 1 to 3; a third with a wider border."""
    known = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789/.:-"))
    borders = [1, 1, 1, 1, 2, 4]
    return [symbol("".join(rng.choice(known, size=int(rng.integers(*letters)))), borders[rng.integers(6)]) for _ in range(count)]


def cells(one, count, x, y, way):
    """The map of a symbol at the cell (x, y), uint8 (count, count), a cell for each module: black on white, grey (or white, for the finders alone) around."""
    modules, finders = one
    shown = {"full": modules, "modules": modules & ~finders, "finders": modules & finders}[way]
    level = np.full((count, count), 255 if way == "finders" else 128, dtype=np.uint8)
    side = len(modules)
    top, left, low, right = max(0, y), max(0, x), min(count, y + side), min(count, x + side)
    level[top:low, left:right] = np.where(shown, 0, 255)[top - y:low - y, left - x:right - x]
    return level


def in_place(one, size, x, y, way):
    """The same in pixels, uint8 (size, size)."""
    return np.kron(cells(one, size // MODULE, x, y, way), np.ones((MODULE, MODULE), dtype=np.uint8))


def over(scene, level):
    """A scene with light and dark modules where its map is white and black: uint8 (size, size, 3)."""
    scene = scene.astype(np.float32)
    luma = scene @ LUMA
    lighter = np.clip((LIGHT - luma) / np.maximum(255 - luma, 1), 0, 1)[..., None]
    darker = np.clip(DARK / np.maximum(luma, 1), 0, 1)[..., None]
    level = level[..., None]
    out = np.where(level == 255, scene + (255 - scene) * lighter, np.where(level == 0, scene * darker, scene))
    return np.rint(out).astype(np.uint8)


def luma_of(pictures):
    """(n, 3, h, w) to (n, 1, h, w)."""
    return (pictures * torch.from_numpy(LUMA).to(pictures.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def over_all(scenes, levels):
    """`over` for tensors (n, 3, h, w) and maps (n, 1, h, w) in 0..1."""
    luma = luma_of(scenes)
    lighter = ((LIGHT / 255 - luma) / (1 - luma).clamp(min=1 / 255)).clamp(0, 1)
    darker = (DARK / 255 / luma.clamp(min=1 / 255)).clamp(0, 1)
    return torch.where(levels > 0.9, scenes + (1 - scenes) * lighter, torch.where(levels < 0.1, scenes * darker, scenes))


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
