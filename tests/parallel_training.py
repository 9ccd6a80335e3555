"""A small training for test_training: killed and resumed there, or shared by the processes of torchrun."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from segdet.runtime import distributed
from segdet.runtime.tensors import save_tensors
from segdet.training.loop import fit
from segdet.unet3d import UNet3D


def train(out, checkpoint=None, steps=6, batches=None):
    """Train a 3D U-Net with dropout in front on noise and write its weights to `out`."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), UNet3D(1, 2, 2, depth=2))
    x = torch.randn(6, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))

    def batch_loss(generator):
        chosen = torch.randint(6, (2,), generator=generator)
        return {"cross_entropy": F.cross_entropy(model(x[chosen]), (x[chosen, 0] > 0).long())}

    def validate():
        with torch.no_grad():
            return -F.cross_entropy(model(x), (x[:, 0] > 0).long()).item()

    if checkpoint:
        Path(checkpoint).with_suffix(".begun").touch()
    # not Adam, which makes whole steps of the rounding in the gradients of biases before a normalisation
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    fit(
        model, batch_loss, optimizer, steps, seed=0, every=2, validate=validate,
        batches=batches, checkpoint=checkpoint,
    )  # fmt: skip
    if out and distributed.processes()[0] == 0:
        save_tensors(out, model.state_dict(), {})


def alone(*arguments):
    """Train on one thread, in a process that may be killed."""
    torch.set_num_threads(1)
    train(*arguments)


if __name__ == "__main__":
    with distributed.process_group(torch.device("cpu")):
        train(sys.argv[1])
