"""Muon: momentum whose update is made (nearly) orthogonal, for matrices and for convolution kernels flattened to matrices.

After Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). Everything that is not a hidden matrix (norms, biases,
embeddings, first and last convolutions) goes to AdamW; `split_parameters` decides.
"""

import torch

NS = (3.4445, -4.7750, 2.0315)


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration towards U V^T of a matrix (or a batch of equal ones), in bfloat16."""
    a, b, c = NS
    x = g.bfloat16()
    flip = x.size(-2) > x.size(-1)
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.mT if flip else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"]
                m.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(m, group["momentum"]).flatten(1)
                by_shape.setdefault(tuple(update.shape), []).append((p, update))
            for (rows, columns), items in by_shape.items():
                updates = orthogonalise(torch.stack([u for _, u in items]))
                scale = max(1.0, rows / columns) ** 0.5
                for (p, _), u in zip(items, updates):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(u.view_as(p) * (group["lr"] * scale))


def split_parameters(module, keep_out=()):
    """(matrices for Muon, the rest for AdamW). `keep_out`: substrings of names that never go to Muon."""
    hidden, rest = [], []
    for name, p in module.named_parameters():
        is_matrix = p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 16
        (hidden if is_matrix and not any(k in name for k in keep_out) else rest).append(p)
    return hidden, rest
