"""A small training for test_training: killed and resumed there, shared by torchrun's processes, or wanted by two."""

import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from segdet.phantom import make
from segdet.phantom.cache import cached_phantom
from segdet.runtime import distributed
from segdet.runtime.tensors import save_tensors
from segdet.training import loop
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
    loop.fit(
        model, batch_loss, optimizer, steps, seed=0, every=2, validate=validate,
        batches=batches, checkpoint=checkpoint,
    )  # fmt: skip
    if out and distributed.processes()[0] == 0:
        save_tensors(out, model.state_dict(), {})


def alone(*arguments):
    """Train on one thread, in a process that may be killed."""
    torch.set_num_threads(1)
    train(*arguments)


def beside_another(number, folder):
    """Make the phantom and train into the checkpoint that another process makes and trains at the same time.

    The log gets a line for every phantom that is made and every step that is taken.
    """
    torch.set_num_threads(1)
    os.environ["SEGDET_CACHE"] = str(folder / "cache")
    original, step = make.make_phantom, loop._backward

    def note(what):
        with open(folder / "log", "a") as log:
            log.write(f"{what}\n")

    def make_slowly(seed, **options):
        note("phantom")
        while not all((folder / f"{n}.begun").exists() for n in (0, 1)):
            time.sleep(0.01)
        time.sleep(0.3)  # in which the other asks for it
        return original(seed, **options)

    def slow_step(*arguments):
        note("step")
        time.sleep(0.05)
        return step(*arguments)

    make.make_phantom, loop._backward = make_slowly, slow_step
    (folder / f"{number}.begun").touch()
    volume = cached_phantom(3, shape=(16, 24, 16))
    save_tensors(folder / f"phantom{number}", {"voxels": torch.from_numpy(volume.voxels)}, volume.meta)
    train(folder / f"weights{number}", folder / "state", steps=8)


if __name__ == "__main__":
    with distributed.process_group(torch.device("cpu")):
        train(sys.argv[1])
