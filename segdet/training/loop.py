"""One training loop for both networks: checkpoint, resume, best-on-validation, mixed precision (chapters 05, 08)."""

import hashlib
import json
import math
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch

from ..errors import NO_ROOM_TO_TRAIN, TrainingError, is_out_of_memory
from ..runtime import distributed
from ..runtime.atomic import one_writer
from ..runtime.device import random_state_kept
from ..runtime.progress import progress
from .checkpoint import History, restore_state, save_state


class OutOfTime(Exception):
    """The time that was allowed has passed; what was reached is in the checkpoint."""


@random_state_kept()
def fit(
    model,
    batch_loss,
    optimizer,
    steps,
    *,
    seed,
    identity=None,
    schedule=None,
    clip_norm=None,
    validate=None,
    watch=None,
    every=1000,
    batches=None,
    checkpoint=None,
    label="training",
    batch_names=None,
    deadline=None,
    log=None,
):
    """Train `model` in place and leave it with its best weights.

    The batch of a step, and what a dropout layer drops, depend on (seed, step) alone, so a resumed run sees what the
    uninterrupted one would have: on a CPU it ends in the same bytes, on a GPU to the rounding of sums whose order
    varies there. Under torchrun the processes share a step's batches; the weights are those of one process with as
    many batches, to a rounding.

    Parameters
    ----------
    model : nn.Module
    batch_loss : callable
        ``batch_loss(generator)`` draws a batch with a CPU `torch.Generator` and returns a dict of scalar losses,
        whose sum is minimised.
    optimizer : torch.optim.Optimizer
    steps : int
    seed : int
    identity : dict, optional
        What else decides the result (data, settings); a checkpoint of another identity is refused.
    schedule : callable, optional
        The learning rate's factor at a step, ``schedule(step) -> float``.
    clip_norm : float, optional
        Gradients longer than this are shortened to it.
    validate : callable, optional
        ``validate() -> float``, higher is better, called after every `every` steps and after the last one. The
        weights of the best value are kept (paper section 3.1); without it, the last ones.
    watch : callable, optional
        ``watch(model)`` is called when `validate` is. What it returns, anything that JSON holds, is noted and decides
        nothing.
    batches : int, optional
        Batches a step, whose gradients are averaged; by default one a process. Each starts from the running
        statistics of the step before, and the mean of what they leave is kept.
    checkpoint : path or callable, optional
        Where the state is kept every `every` steps. A file that is there already is continued. A callable gets the
        digest of the training's identity, a str, and returns the path: trainings that differ do not meet. One process
        at a time trains into a file; another that wants the same waits, and goes on from what it finds.
    batch_names : callable, optional
        ``batch_names(generator)`` says what the batch of a step holds, a list of str; for the error of a bad loss.
    deadline : float, optional
        A value of `time.monotonic` after which training stops with `OutOfTime`, its state saved.
    log : path, optional
        A folder for TensorBoard's curves, where that package is installed; they go to its folder `label`.

    Returns
    -------
    History

    Raises
    ------
    TrainingError
        The loss is not finite, or memory does not suffice.
    CheckpointError
        The checkpoint is corrupt, or of another model, optimiser, seed or identity.
    OutOfTime
        The deadline has passed; the state is saved.
    """
    rank, world = distributed.processes()
    batches = batches or world
    if batches % world:
        raise ValueError(f"{batches} batches a step cannot be shared by {world} processes")
    identity = _identity(model, optimizer, {"seed": seed, "steps": steps, "batches": batches}, identity)
    checkpoint = checkpoint(_fingerprint(identity)) if callable(checkpoint) else checkpoint
    training = _Training(model, optimizer, seed, batches, identity, checkpoint and Path(checkpoint), label)
    with ExitStack() as open_until_the_end:
        if checkpoint and rank == 0:
            open_until_the_end.enter_context(one_writer(checkpoint))
        distributed.wait()  # until the state is that which the others will read
        training.resume()
        first, begun = training.done, time.monotonic() - training.history.seconds
        writer = open_until_the_end.enter_context(_writer(Path(log) / label, first)) if log and rank == 0 else None
        bar = progress(range(first, steps), label, total=steps, unit="steps", initial=first)
        for step in bar:
            training.step(batch_loss, schedule(step) if schedule else 1, clip_norm, batch_names)
            milestone = training.done % every == 0 or training.done == steps
            if milestone:
                training.milestone(validate, watch)
            _show(bar, writer, training.history, training.done)
            training.history.seconds = time.monotonic() - begun
            late = deadline is not None and time.monotonic() > deadline and training.done < steps
            if milestone or late:
                training.save()
            if late:
                raise OutOfTime
    return training.finish()


class _Training:
    """How far a training is: the steps that are done, what happened in them, and the best weights so far."""

    def __init__(self, model, optimizer, seed, batches, identity, checkpoint, label):
        self.model, self.optimizer, self.seed, self.batches = model, optimizer, seed, batches
        self.identity, self.checkpoint, self.label = identity, checkpoint, label
        self.rank, self.world = distributed.processes()
        self.rates = [group["lr"] for group in optimizer.param_groups]  # as the caller set them; `step` scales them
        self.history, self.done, self.best = History(), 0, None

    def resume(self):
        """Go on from the checkpoint, if it is there."""
        if self.checkpoint and self.checkpoint.exists():
            state = restore_state(self.checkpoint, self.model, self.optimizer, self.identity)
            self.history, self.done, self.best = state
        self.history.identity = _fingerprint(self.identity)

    def step(self, batch_loss, factor, clip_norm, batch_names):
        """Take the next step, at `factor` times the learning rates."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        # far apart in the lower 32 bits, which are all that a generator of the CPU looks at
        streams = [self.seed * 1_000_003 + self.done + part * 0x9E3779B1 for part in range(self.batches)]
        where = f"{self.label}, step {self.done + 1}"
        terms = _backward(self.model, batch_loss, streams[self.rank :: self.world], self.batches, where)
        loss = sum(terms.values())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm or math.inf)
        if not torch.isfinite(loss + norm):
            found = f"{self.label}: loss {loss.item()}, gradient {norm.item()} at step {self.done + 1}"
            raise _not_finite(found, batch_names, streams, self.checkpoint)
        self.optimizer.step()
        self.history.loss.append({name: term.item() for name, term in terms.items()})
        self.done += 1

    def milestone(self, validate, watch):
        """Score the network and let it be watched; the weights of the best score so far are kept."""
        if validate:
            self.model.eval()
            score = float(validate())
            if not math.isfinite(score):
                found = f"{self.label}: the validation score is {score}"
                raise TrainingError(f"{found}; is there anything to find in those scans?")
            self.history.validation.append([self.done, score])
            if score >= max(value for _, value in self.history.validation):
                self.history.best_step = self.done
                self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if watch:
            self.model.eval()
            self.history.watched.append([self.done, watch(self.model)])

    def save(self):
        """Leave its state in the checkpoint."""
        if self.checkpoint and self.rank == 0:
            state = self.history, self.done, self.best
            save_state(self.checkpoint, self.model, self.optimizer, *state, self.identity)

    def finish(self):
        """Leave the model with its best weights and return what happened."""
        if self.best:
            self.model.load_state_dict(self.best)
        else:
            self.history.best_step = self.done
        self.model.eval()
        return self.history


def _identity(model, optimizer, settings, more):
    """What decides the result of a training, as it is read back from a checkpoint."""
    facts = settings | {"network": _layers(model)} | (more or {})
    facts |= {"optimizer": type(optimizer).__name__, "its settings": _settings(optimizer)}
    return json.loads(json.dumps(facts))


def _show(bar, writer, history, done):
    """Show the last loss and validation score beside the progress bar, and those of this step as TensorBoard's."""
    terms, shown = history.loss[-1], {}
    if history.validation:
        last, value = history.validation[-1]
        shown = {"validation": f"{value:.3f}"}
        terms = terms | ({"validation": value} if last == done else {})
    bar.set_postfix(loss=f"{sum(history.loss[-1].values()):.3f}", **shown, refresh=False)
    if writer:
        for name, number in terms.items():
            writer.add_scalar(name, number, done)
        writer.flush()


def _not_finite(found, batch_names, streams, checkpoint):
    """The error for a loss or a gradient that is not finite, in a step of these random seeds."""
    names = [n for s in streams for n in batch_names(torch.Generator().manual_seed(s))] if batch_names else ()
    found += f", whose batch holds {', '.join(names)}" if names else ""
    kept = f" {checkpoint.name} holds the last good state." if checkpoint and checkpoint.exists() else ""
    return TrainingError(f"{found}; look at these scans or lower the learning rate.{kept}")


def _backward(model, batch_loss, streams, batches, where):
    """Leave the gradients of a step in `model` and return its loss terms, both means over its batches.

    `streams` are the random seeds of the batches that this process computes, `where` says it in an error.
    """
    running = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    before, after = [b.clone() for b in running], [torch.zeros_like(b) for b in running]
    terms = {}
    for stream in streams:
        for buffer, value in zip(running, before, strict=True):
            buffer.copy_(value)
        torch.manual_seed(stream)
        try:
            found = batch_loss(torch.Generator().manual_seed(stream))
            (sum(found.values()) / batches).backward()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"{where}: {NO_ROOM_TO_TRAIN}") from error
        for name, term in found.items():
            terms[name] = terms.get(name, 0) + term.detach() / batches
        for total, buffer in zip(after, running, strict=True):
            total += buffer / batches
    distributed.add_up([*(p.grad for p in model.parameters() if p.grad is not None), *after, *terms.values()])
    for buffer, value in zip(running, after, strict=True):
        buffer.copy_(value)
    return terms


def _fingerprint(facts):
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _layers(model):
    """A digest of a network's layers: their classes in `torch.nn` and their settings, whatever ours are called."""
    leaves = [module for module in model.modules() if not any(module.children())]
    kinds = [next(k.__name__ for k in type(m).__mro__ if k.__module__.startswith("torch.nn")) for m in leaves]
    return _fingerprint([[kind, module.extra_repr()] for kind, module in zip(kinds, leaves, strict=True)])


def _settings(optimizer):
    """An optimiser's numbers, group by group; how it computes (fused, foreach) decides nothing."""
    return [
        {k: v for k, v in group.items() if isinstance(v, int | float | tuple) and k not in ("fused", "foreach")}
        for group in optimizer.param_groups
    ]


def _writer(log, first):
    """TensorBoard's writer, going on after step `first`, to be entered; it gives None without that package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return nullcontext()
    return SummaryWriter(log, purge_step=first + 1)
