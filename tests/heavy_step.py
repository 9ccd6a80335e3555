"""A training step of a known size, for test_bench, which measures it in a process of its own."""

import torch

WIDTH = 4096


def step_of(who):
    """A function that trains a square layer for a step; of "nothing" it is a small one."""
    layer = torch.nn.Linear(WIDTH if who == "ours" else 1, WIDTH if who == "ours" else 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, foreach=False)

    def step():
        optimizer.zero_grad()
        layer(torch.ones(1, layer.in_features)).sum().backward()
        optimizer.step()

    return step
