"""Weights that are grown from the names of tensors, as `tests/it/grown.rs` of `ordu-engine` grows them: nothing but names and shapes has to be stored."""

import math

import numpy
import torch

MASK = (1 << 64) - 1


def grown(name, shape):
    """The tensor of a name: FNV-1a of the name seeds SplitMix64; 24 bits a number. As large as keeps signals alive."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, math.prod(shape) + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    unit = (z >> numpy.uint64(40)).astype(numpy.float64) / 8388608.0 - 1.0  # in −1…1
    if len(shape) > 1:
        values = unit * (2.0 / math.sqrt(math.prod(shape[1:])))
    elif name.endswith(("weight", "running_var")):
        values = 1.0 + unit * 0.3
    else:
        values = unit * 0.3
    return torch.from_numpy(values.astype(numpy.float32).reshape(shape))


def fill_all(module, part):
    """Grows all tensors of a module, those of its normalisation too, and tells their names and shapes."""
    state, shapes = module.state_dict(), {}
    for name, value in state.items():
        if value.is_floating_point():
            value.copy_(grown(f"{part}/{name}", value.shape))
            shapes[name] = list(value.shape)
    return module.eval(), shapes
