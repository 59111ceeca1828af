"""Fits the price model: a small network that learns from observations and teachers.

    python fit.py TABLE --teachers A.pt B.pt --out fitted.pt [--with-validation]
    python fit.py TABLE --teachers A.pt B.pt --out fitted.pt [--with-validation] \\
        --start fitted.pt --rate 5e-4 --steps 3000 --shrinking 100

The second run irons out the last places where a larger picture is cheaper.

Its weights are multiples of 1/`UNIT`, so that the file of weights is short and says all.
"""

import argparse

import torch

from data import Requests, load, report
from networks import Stack, optimiser, relative_loss, shrinking_loss
from teach import WIDTHS as TEACHER_WIDTHS
from teach import anchors

WIDTHS = [80, 80, 48]
UNIT = 256
BATCH = 512
# So many requests the teachers price.
LESSONS = 300_000


class Rounded(Stack):
    """A single network whose weights can be rounded while it learns."""

    rounded = False

    def forward(self, x):
        if not self.rounded:
            return super().forward(x)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(to_unit(bias), x, to_unit(weight))
            if layer < last:
                x = torch.relu(x)
        return 10 * x[..., 0]


def to_unit(parameter):
    """The nearest multiple of 1/`UNIT`; learns as if it were not rounded."""
    rounded = torch.round(parameter * UNIT) / UNIT
    return parameter + (rounded - parameter).detach()


def teachers(paths, inputs):
    """The mean prediction of all teachers."""
    states = [torch.load(path) for path in paths]
    joined = {name: torch.cat([state[name] for state in states]) for name in states[0]}
    count = len(joined["weights.0"])
    network = Stack(count, [inputs, *TEACHER_WIDTHS, 1], 0)
    network.load_state_dict(joined)

    def predict(x):
        with torch.no_grad():
            return network(x.expand(count, *x.shape)).mean(0)

    return predict


def flattest(network, requests):
    """Of many pairs of neighbouring requests those whose prices rise least."""
    drawn = requests.draw(6 * BATCH, wide=0.6)
    grown, by = requests.enlarge(drawn)
    with torch.no_grad():
        before, after = network(drawn[None])[0], network(grown[None])[0]
        rise = (after - before) / before.clamp(min=2) / by
    rows = rise.topk(BATCH // 4, largest=False).indices
    return drawn[rows], grown[rows], by[rows]


def dips(network, x):
    """How many percent of the pairs of neighbouring requests have the smaller one dearer."""
    requests = Requests(x, 99)
    shares = []
    with torch.no_grad():
        for wide in (0, 1):
            drawn = requests.draw(50_000, wide)
            grown, _ = requests.enlarge(drawn)
            fall = network(grown[None]) < network(drawn[None])
            shares.append(100 * fall.float().mean().item())
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--start", help="go on from this file, rounded from the beginning")
    parser.add_argument("--steps", type=int, default=16_000)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--shrinking", type=float, default=10.0)
    parser.add_argument("--observed", type=float, default=0.5)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--with-validation", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    parts = load(options.table)
    _, x, price = parts["fit"]
    _, validation, validation_price = parts["validation"]
    if options.with_validation:
        x, price = torch.cat([x, validation]), torch.cat([price, validation_price])
    anchor_x, anchor_price = anchors()
    teach = teachers(options.teachers, x.shape[1])
    report("teachers, validation", teach(validation), validation_price)
    requests = Requests(x, options.seed)
    lesson_x = torch.cat([requests.draw(BATCH, wide=0.1) for _ in range(LESSONS // BATCH)])
    lesson_price = torch.cat([teach(batch) for batch in lesson_x.split(BATCH)]).clamp(min=2)
    network = Rounded(1, [x.shape[1], *WIDTHS, 1], options.seed)
    if options.start:
        network.load_state_dict(torch.load(options.start))
    adam, cycle = optimiser(network, options.rate, options.decay, options.steps)
    for step in range(options.steps):
        # By now the learning rate is small enough for what rounding takes away to be made good.
        network.rounded = bool(options.start) or step > options.steps * 0.7
        rows = torch.randint(len(lesson_x), (BATCH,))
        loss = relative_loss(network(lesson_x[rows][None]), lesson_price[rows])
        rows = torch.randint(len(x), (BATCH // 2,))
        loss = loss + options.observed * relative_loss(network(x[rows][None]), price[rows])
        loss = loss + 0.3 * relative_loss(network(anchor_x[None]), anchor_price)
        drawn, grown, by = flattest(network, requests)
        loss = loss + options.shrinking * shrinking_loss(network, drawn[None], grown[None], by)
        adam.zero_grad()
        loss.backward()
        adam.step()
        cycle.step()
        if step % 4000 == 3999:
            with torch.no_grad():
                report(f"{step + 1} validation", network(validation[None])[0], validation_price)
    with torch.no_grad():
        report("fit", network(x[None])[0], price)
        report("anchors", network(anchor_x[None])[0], anchor_price)
        drawn = requests.draw(5000, wide=0)
        report("against the teachers", network(drawn[None])[0], teach(drawn))
    print("dips in percent, near the table and anywhere:", dips(network, x))
    torch.save(network.state_dict(), options.out)


if __name__ == "__main__":
    main()
