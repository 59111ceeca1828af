"""The workflow of pictures that scan, step by step, as the engine does it (see `crates/ordu-engine/src/native/qr.rs`).

Modules and finders are drawn apart, merged while there is noise left in them, and finished together, each stretch steered by its own map at its
own strength. `Walk` is one run for several prompts and symbols at once.
"""

import dataclasses
import math
import random

import numpy as np
import torch

import pictures
import sampling
import symbols
import train_control

STRENGTH = {"full": 1.5, "modules": 1.0, "finders": 6.0}
INSISTENT = 1.8
KARRAS_MAX, RHO = 14.6, 7.0
ELSEWHERE = [  # prompts of people who do not know what the model can draw
    "a lighthouse at the sea", "a red fox in the snow", "an old town, evening light", "a cat", "green hills", "portrait of a woman, oil painting",
    "a blue house", "stained glass window, many colours", "a forest in autumn, red and yellow", "white flowers on black", "",
]


@dataclasses.dataclass
class Settings:
    steps: int = 30
    guidance: float = 5.0
    is_noisy: bool = True  # the sampler draws fresh noise at each step
    is_karras: bool = True
    finish: float = STRENGTH["full"]


USUAL = Settings()  # what is asked for when nothing is said
TRIED = [Settings(), Settings(steps=25, is_noisy=False, is_karras=False), Settings(steps=10, is_noisy=False, is_karras=False), Settings(steps=15, guidance=7.5)]


def velocity(model, network, z, t, text, maps, strength):
    down, bottom = network(z, t, text, maps, conditioning_scale=strength, return_dict=False)
    return model.unet(z, t, text, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample


def hand_over(steps):
    return 11 if steps >= 20 else max(1, round(0.44 * steps))


class Levels:
    """The noise levels of training and of runs: sigma, and the time that the network is told."""

    def __init__(self):
        alphas = sampling.make_scheduler("ddim").alphas_cumprod.double()
        self.known = [math.sqrt((1 - a) / a) if a > 0 else math.inf for a in alphas.tolist()]

    def nearest(self, sigma):
        if math.isinf(sigma):
            return len(self.known) - 1
        return min(range(len(self.known) - 1), key=lambda t: abs(math.log(self.known[t]) - math.log(sigma)))

    def normal(self, steps):
        times = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
        return [(self.known[t], t) for t in times] + [(0.0, 0)]

    def karras(self, steps):
        if steps == 1:
            return self.normal(1)
        ends = [KARRAS_MAX ** (1 / RHO), self.known[0] ** (1 / RHO)]
        sigmas = [(ends[0] + (ends[1] - ends[0]) * i / max(1, steps - 2)) ** RHO for i in range(steps - 1)]
        return [(math.inf, 999)] + [(s, self.nearest(s)) for s in sigmas] + [(0.0, 0)]


LEVELS = Levels()


def shares(sigma):
    """(share of the picture, share of the noise)."""
    return (0.0, 1.0) if math.isinf(sigma) else (1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma))


def in_pixels(levels, device):
    """Maps with a cell for each module, uint8 (h, w) each, as (n, 1, 8 h, 8 w) in 0..1."""
    small = torch.from_numpy(np.stack(levels)).to(device).float()[:, None] / 255
    return small.repeat_interleave(symbols.MODULE, 2).repeat_interleave(symbols.MODULE, 3)


def masks(known, side, at, device):
    """Where finders are, (n, 1, side, side) of latents."""
    drawn = [symbols.finder_mask(one, side * symbols.MODULE, x, y) for one, (x, y) in zip(known, at)]
    return torch.nn.functional.avg_pool2d(torch.from_numpy(np.stack(drawn))[:, None], symbols.MODULE).to(device)


class Walk:
    """A run: background, finders, finish. `step` goes one step on."""

    def __init__(self, model, prompts, known, side, settings, seed):
        count, device = len(prompts), model.device
        self.model, self.settings = model, settings
        self.dice = torch.Generator().manual_seed(seed)
        self.noise = self.fresh((count, 8, side, side))
        text = model.embed(list(prompts) + [""])
        self.text = torch.cat([text[:-1], text[-1:].expand(count, -1, -1)])
        at = [((side - len(one[0])) // 2 // 8 * 8,) * 2 for one in known]
        self.maps = {way: in_pixels([symbols.cells(one, side, x, y, way) for one, (x, y) in zip(known, at)], device) for way in symbols.WAYS}
        self.mask = masks(known, side, at, device)
        inside = (self.maps["full"] - 0.5).abs() > 0.1
        near = torch.nn.functional.interpolate(self.mask, scale_factor=symbols.MODULE) > 0.5
        self.near = near.float()
        self.weights = {"full": inside.float(), "modules": (inside & ~near).float() + 0.02, "finders": near.float() + 0.02}
        meet, first = hand_over(settings.steps), min(1, hand_over(settings.steps) - 1)
        normal = LEVELS.normal(settings.steps)
        own = LEVELS.karras(settings.steps) if settings.is_karras else normal
        self.hand_over = shares(own[meet][0])[0] / shares(normal[meet][0])[0]
        stretch = lambda way, levels: [(way, now, then) for now, then in zip(levels, levels[1:])]
        self.todo = stretch("modules", normal[:meet + 1]) + stretch("finders", normal[first:meet + 1]) + stretch("full", own[meet:])
        self.first, self.way, self.z, self.background = normal[first][0], None, None, None

    def fresh(self, shape):
        return torch.randn(shape, generator=self.dice).to(self.model.device)

    def is_over(self):
        return not self.todo

    def start(self, way):
        if way == "full":
            merged = self.background + self.mask * (self.z - self.background)
            self.z = merged * self.hand_over
        else:
            sigma = math.inf if way == "modules" else self.first
            picture, noise = shares(sigma)
            with torch.no_grad():
                clean = self.model.vae.encode(2 * self.maps[way].expand(-1, 3, -1, -1) - 1).latent_dist.mode() * self.model.scale
            self.background, self.z = self.z, picture * clean + noise * self.noise
        self.way = way

    def step(self, network):
        """(clean latents as seen from here, the map, where it counts, which stretch)"""
        way, (sigma, time), (following, _) = self.todo.pop(0)
        if way != self.way:
            self.start(way)
        maps = self.maps[way].expand(-1, 3, -1, -1)
        strength = self.settings.finish if way == "full" else STRENGTH[way]
        times = torch.full((2 * len(self.z),), time, device=self.z.device)
        out = velocity(self.model, network, torch.cat([self.z, self.z]), times, self.text, torch.cat([maps, maps]), strength)
        wanted, anything = out.chunk(2)
        picture, noise = shares(sigma)
        clean = picture * self.z - noise * (anything + self.settings.guidance * (wanted - anything))
        with torch.no_grad():
            self.z = self.following(clean.detach(), sigma, following)
        return clean, self.maps[way], self.weights[way], way

    def following(self, clean, sigma, following):
        if following == 0:
            return clean
        picture, noise = shares(sigma)
        within = (self.z - picture * clean) / noise
        share = shares(following)[0]
        if not self.settings.is_noisy:
            return share * clean + shares(following)[1] * within
        ratio = 0.0 if math.isinf(sigma) else following / sigma
        up = following * math.sqrt(max(0.0, 1 - ratio * ratio))
        return share * (clean + following * ratio * within + up * self.fresh(self.z.shape))

    @torch.no_grad()
    def run(self, network):
        while self.todo:
            self.step(network)
        return self.z


def prompt(record):
    draw = random.random()
    if draw < 0.15:
        return random.choice(ELSEWHERE)
    return train_control.caption(record) if draw < 0.3 else pictures.random_caption(record) if draw < 0.6 else pictures.full_caption(record)


def random_walk(model, count, known, long):
    """A walk as people ask for them; one in seven has a longer text and is a larger picture."""
    every, _ = pictures.split()
    prompts = [prompt(every[i]) for i in np.random.randint(len(every), size=count)]
    side = 32
    if random.random() < 1 / 7:
        side, count, known = 43, max(1, count // 2), long
    fitting = [one for one in known if len(one[0]) <= side]
    settings = Settings(
        steps=random.choice([30, 30, 30, 25, 20, 15, 10, 8]), guidance=5.0 if random.random() < 0.5 else random.uniform(1, 9), is_noisy=random.random() < 0.65,
        is_karras=random.random() < 0.65, finish=INSISTENT if random.random() < 0.2 else STRENGTH["full"],
    )
    return Walk(model, prompts[:count], random.choices(fitting, k=count), side, settings, random.getrandbits(40))
