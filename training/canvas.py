"""Draws what `pictures.py` draws, by the thousand and on any device: the same shapes, colours and places, jittered by PyTorch's own numbers."""

import math

import torch

import pictures

POINTS = 1 << 26  # points of shapes that are looked at in one go


def to_numbers(records, device):
    return torch.as_tensor(records, dtype=torch.long, device=device)


def inside(shape, dx, dy, radius):
    """`pictures.inside` for tensors."""
    if shape == "circle":
        return dx * dx + dy * dy <= radius * radius
    if shape == "square":
        return torch.maximum(dx.abs(), dy.abs()) <= pictures.SQUARE_HALF_SIDE * radius
    if shape == "triangle":
        circum = pictures.TRIANGLE_CIRCUMRADIUS * radius
        return (dy <= circum / 2) & (math.sqrt(3.0) * dx.abs() - dy <= circum)
    ax, ay = dx.abs(), dy.abs()
    return (torch.maximum(ax, ay) <= pictures.CROSS_ARM * radius) & (torch.minimum(ax, ay) <= pictures.CROSS_HALF_WIDTH * radius)


def covers(records, size):
    """(n, 1, size, size) in 0..1: how much of each pixel the shapes of records (n, 5) cover."""
    device, count, scale = records.device, len(records), size / pictures.SIZE
    places = torch.from_numpy(pictures.PLACE_XY).to(device)
    xy = (places[records[:, 2]] + (2 * torch.rand(count, 2, device=device) - 1) * pictures.PLACE_JITTER) * scale
    low, high = torch.from_numpy(pictures.RADII).to(device)[records[:, 3]].unbind(1)
    radius = (low + (high - low) * torch.rand(count, device=device)) * scale
    points = (torch.arange(size * pictures.SUPERSAMPLE, device=device) + 0.5) / pictures.SUPERSAMPLE
    out = torch.empty(count, 1, size, size, device=device)
    for number, shape in enumerate(pictures.SHAPES):
        for some in torch.nonzero(records[:, 1] == number)[:, 0].split(max(1, POINTS // len(points) ** 2)):
            at = lambda v: v[some].view(-1, 1, 1)
            hits = inside(shape, points[None, None, :] - at(xy[:, 0]), points[None, :, None] - at(xy[:, 1]), at(radius))
            out[some] = torch.nn.functional.avg_pool2d(hits.float()[:, None], pictures.SUPERSAMPLE)
    return out


def colours(numbers):
    """(n, 3, 1, 1) in 0..1: the colours of some numbers."""
    return (torch.from_numpy(pictures.RGB).to(numbers.device)[numbers] / 255).view(-1, 3, 1, 1)


def draw(records, size=pictures.SIZE):
    """Pictures (n, 3, size, size) of records (n, 5) in 0..1, as 8 bit would have them, and what their shapes cover."""
    cover = covers(records, size)
    fore, back = colours(records[:, 0]), colours(records[:, 4])
    return ((back + (fore - back) * cover) * 255).round() / 255, cover


def to_uint8(drawn):
    """(n, 3, h, w) in 0..1 to uint8 (n, h, w, 3) for NumPy."""
    return (drawn.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
