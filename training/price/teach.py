"""Fits the teachers: large networks, each on the same observations with its own chance.

    python teach.py TABLE OUT.pt --seed 0 [--with-validation]

The mean of several teachers predicts better than any of them and is far too large to ship;
`fit.py` teaches it to a small network.
"""

import argparse
import csv
from pathlib import Path

import torch

from data import Requests, encode, load, report
from networks import Stack, optimiser, relative_loss, shrinking_loss

WIDTHS = [128, 128, 128]
BATCH = 128
ANCHORS = Path(__file__).parents[2] / "crates/ordu-core/testdata/image-price-anchors.csv"


def anchors():
    """The prices that the specification lists."""
    rows = list(csv.DictReader(ANCHORS.open(encoding="utf-8")))
    x = torch.tensor([encode(row) for row in rows], dtype=torch.float32)
    return x, torch.tensor([float(row["price"]) for row in rows], dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--decay", type=float, default=0.2)
    parser.add_argument("--shrinking", type=float, default=3.0)
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
    requests = Requests(x, options.seed)
    network = Stack(options.count, [x.shape[1], *WIDTHS, 1], options.seed)
    batches = len(x) // BATCH
    adam, cycle = optimiser(network, 4e-3, options.decay, options.epochs * batches)
    spread = lambda rows: rows.expand(options.count, *rows.shape)
    for _ in range(options.epochs):
        # Each network sees the rows in an order of its own.
        order = torch.stack([torch.randperm(len(x)) for _ in range(options.count)])
        for batch in range(batches):
            rows = order[:, batch * BATCH : (batch + 1) * BATCH]
            loss = relative_loss(network(x[rows]), price[rows])
            if batch % 4 == 0:
                loss = loss + 0.2 * relative_loss(network(spread(anchor_x)), anchor_price)
            if batch % 2 == 0:
                drawn = requests.draw(64, wide=0.5)
                grown, by = requests.enlarge(drawn)
                loss = loss + options.shrinking * shrinking_loss(
                    network, spread(drawn), spread(grown), by
                )
            adam.zero_grad()
            loss.backward()
            adam.step()
            cycle.step()
    with torch.no_grad():
        report("fit", network(spread(x)).mean(0), price)
        predicted = network(spread(validation))
        report("validation, one", predicted[0], validation_price)
        report("validation, mean", predicted.mean(0), validation_price)
    torch.save(network.state_dict(), options.out)


if __name__ == "__main__":
    main()
