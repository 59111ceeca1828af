"""The observations: their split, their encoding, and requests to try a model on.

The table has one row per observed price. Which rows are held out is decided by a hash of the row's
inputs, so it is the same for everybody and no choice of ours.
"""

import csv
import hashlib

import numpy as np
import torch

SAMPLERS = (
    "k_euler k_euler_a k_heun k_lms k_dpm_2 k_dpm_2_a k_dpm_fast k_dpm_adaptive k_dpmpp_2m "
    "k_dpmpp_2s_a k_dpmpp_sde ddim plms uni_pc uni_pc_bh2"
).split()
CONTROLS = "canny hed depth normal openpose seg scribble fakescribbles hough".split()
PROCESSINGS = "txt2img img2img inpainting outpainting".split()
POST_PROCESSORS = (
    "GFPGAN CodeFormers RealESRGAN_x2plus RealESRGAN_x4plus RealESRGAN_x4plus_anime_6B NMKD_Siax "
    "4x_AnimeSharp strip_background"
).split()
NUMBERS = "width height steps cfg denoising control karras hires_fix source_image source_mask".split()
INPUTS = NUMBERS + SAMPLERS + ["no_control"] + CONTROLS + PROCESSINGS + POST_PROCESSORS
FIRST_PP = len(INPUTS) - len(POST_PROCESSORS)

# The part of the table that is only for the acceptance test, and the part that designs are
# compared on, in twentieths.
HELD_OUT, VALIDATION = range(0, 4), range(4, 7)


def encode(row):
    """A row of the table as a vector of `INPUTS`."""
    source = row["source_image"] == "1"
    control = row["control_type"] != "None"
    x = {name: 0.0 for name in INPUTS}
    x["width"] = float(row["width"]) / 1024
    x["height"] = float(row["height"]) / 1024
    x["steps"] = float(row["steps"]) / 100
    x["cfg"] = float(row["cfg_scale"]) / 30
    x["denoising"] = float(row["denoising_strength"]) if source and not control else 1.0
    x["control"] = float(row["control_strength"]) if source and control else 1.0
    for name in ("karras", "hires_fix", "source_image", "source_mask"):
        x[name] = float(row[name])
    x[row["sampler_name"]] = 1.0
    x[row["control_type"] if control else "no_control"] = 1.0
    x[row["source_processing"]] = 1.0
    for name in filter(None, row["post_processing"].split("|")):
        x[name] = 1.0
    return [x[name] for name in INPUTS]


def load(path):
    """The table in three parts: for fitting, for validation, held out; each as (lines, x, price)."""
    lines = open(path, encoding="utf-8").read().splitlines()
    rows = list(csv.DictReader(lines))
    parts = {"fit": [], "validation": [], "held_out": []}
    for line, row in zip(lines[1:], rows):
        inputs = line.rsplit(",", 1)[0]
        twentieth = hashlib.sha256(inputs.encode()).digest()[0] % 20
        part = (
            "held_out" if twentieth in HELD_OUT
            else "validation" if twentieth in VALIDATION
            else "fit"
        )
        # The column is on a scale where the reference payload costs 10, prices are where it is 11.
        parts[part].append((line, encode(row), 1.1 * float(row["kudos"])))
    return {
        name: (
            [line for line, _, _ in part],
            torch.tensor([x for _, x, _ in part], dtype=torch.float32),
            torch.tensor([price for _, _, price in part], dtype=torch.float32),
        )
        for name, part in parts.items()
    }


def report(name, predicted, price):
    """Prints the relative errors in percent."""
    errors = 100 * np.abs(np.asarray(predicted) / np.asarray(price) - 1)
    quantiles = np.quantile(errors, [0.5, 0.9, 0.95, 0.99, 1])
    print(f"{name}: median %.2f  p90 %.2f  p95 %.2f  p99 %.2f  max %.1f" % tuple(quantiles), flush=True)


class Requests:
    """Draws requests that nobody observed, like those of the table and around them."""

    def __init__(self, x, seed):
        self.x = x
        self.generator = torch.Generator().manual_seed(seed)

    def _uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator)

    def draw(self, count, wide):
        """`count` requests; the share `wide` of them of any size and number of steps allowed."""
        rows = lambda: torch.randint(len(self.x), (count,), generator=self.generator)
        drawn = self.x[rows()].clone()
        samplers = slice(len(NUMBERS), len(NUMBERS) + len(SAMPLERS))
        groups = [slice(0, 2), slice(2, 3), slice(3, 4), slice(6, 8), samplers, slice(FIRST_PP, None)]
        for columns in groups:
            other = self.x[rows()]
            mix = self._uniform(count, 1) < 0.5
            drawn[:, columns] = torch.where(mix, other[:, columns], drawn[:, columns])
        wide = self._uniform(count, 1) < wide
        sizes = torch.floor(1 + 48 * self._uniform(count, 2) ** 1.5) / 16
        drawn[:, 0:2] = torch.where(wide, sizes, drawn[:, 0:2])
        steps = torch.floor(1 + 500 * self._uniform(count, 1) ** 3) / 100
        drawn[:, 2:3] = torch.where(wide, steps, drawn[:, 2:3])
        for column, least, most in ((0, 1 / 16, 3), (1, 1 / 16, 3), (2, 0.01, 5)):
            chance = self._uniform(count)
            drawn[:, column][wide[:, 0] & (chance < 0.1)] = least
            drawn[:, column][wide[:, 0] & (chance > 0.95)] = most
        return drawn

    def enlarge(self, x):
        """The same requests with more width, height or steps, and by how much."""
        count = len(x)
        grown = x.clone()
        which = torch.randint(3, (count,), generator=self.generator)
        by = 0.0625 + 0.5 * self._uniform(count) ** 2
        by = torch.where(which == 2, 0.01 + 0.3 * self._uniform(count) ** 2, by)
        grown[torch.arange(count), which] += by
        return grown, by
