"""Networks of rectified linear units, several of one shape side by side, and how they are fitted."""

import torch
from torch import nn


class Stack(nn.Module):
    """`count` independent networks; takes (count, rows, inputs), gives (count, rows) prices."""

    def __init__(self, count, widths, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in zip(widths, widths[1:]):
            uniform = torch.rand(count, fan_in, fan_out, generator=generator) * 2 - 1
            self.weights.append(nn.Parameter(uniform * (3 / fan_in) ** 0.5))
            self.biases.append(nn.Parameter(torch.zeros(count, 1, fan_out)))

    def forward(self, x):
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = torch.relu(x)
        return 10 * x[..., 0]


def relative_loss(predicted, price):
    """The mean relative error, smooth near zero."""
    error = predicted / price - 1
    return torch.sqrt(error * error + 1e-5).mean(dim=1).sum()


def shrinking_loss(network, x, grown, by):
    """How much dearer the smaller of two requests is; a small rise is wanted."""
    before, after = network(x), network(grown)
    scale = before.detach().clamp(min=2)
    rise = (after - before) / scale - 0.003 * by
    return torch.relu(-rise).mean(dim=1).sum()


def optimiser(network, rate, decay, steps):
    """AdamW with one cycle of the learning rate."""
    adam = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps, pct_start=0.1)
    return adam, cycle
