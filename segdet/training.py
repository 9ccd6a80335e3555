"""One training loop for both networks: checkpoint, resume, best-on-validation, mixed precision (chapters 05, 08)."""

import json
import math
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from .atomic import writing
from .errors import CheckpointError, SegdetError, TrainingError


def default_device():
    """The device that SEGDET_DEVICE names, else CUDA, Apple's MPS or the CPU, in that order."""
    named = os.environ.get("SEGDET_DEVICE")
    if named:
        try:
            torch.empty(0, device=named)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SegdetError(f"SEGDET_DEVICE={named} cannot be used here ({reason}); unset it or use cpu") from error
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def precision(device, smallest_side=None):
    """An autocast context in bfloat16 where the hardware has such instructions, else plain float32.

    Parameters
    ----------
    device : torch.device
    smallest_side : int, optional
        Of the deepest feature map of a 3D network. On a CPU a side below 3 means float32: PyTorch 2.15's bfloat16
        weight gradient of a 3 x 3 x 3 convolution on 2 x 3 x N voxels is not defined (NaN, or another value at
        every call); from 3 voxels on it agrees with float32 to 0.3 %.
    """
    on_cpu = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        narrow = smallest_side is not None and smallest_side < 3
        native = device.type == "cpu" and not narrow and (on_cpu.get("avx512_bf16") or on_cpu.get("amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16) if native else nullcontext()


def progress_bar(items, label, total=None, **more):
    """A progress bar over `items` (`more` is tqdm's), in a log a line every half minute.

    Silent where the variable SEGDET_STATIC is set, as it is while notebooks are executed to be stored.
    """
    return tqdm(
        items,
        desc=label,
        total=total,
        disable=bool(os.environ.get("SEGDET_STATIC")),
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
        leave=False,
        **more,
    )


class OutOfTime(Exception):
    """The time that was allowed has passed; what was reached is in the checkpoint."""


@dataclass
class History:
    """What happened in training.

    Attributes
    ----------
    loss : list of dict
        One entry a step: every term of the loss.
    validation : list of [step, value]
    best_step : int
        After how many steps the kept weights were reached.
    """

    loss: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    best_step: int = 0

    def curve(self, term=None):
        """The loss at every step, (steps,): one term, or the sum of all."""
        return torch.tensor([sum(e.values()) if term is None else e[term] for e in self.loss])


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
    every=1000,
    checkpoint=None,
    label="training",
    batch_names=None,
    deadline=None,
):
    """Train `model` in place and leave it with its best weights.

    The batch of a step depends on (seed, step) alone, so a resumed run sees what the uninterrupted one would have.

    Parameters
    ----------
    model : nn.Module
    batch_loss : callable
        ``batch_loss(generator)`` draws a batch with a CPU `torch.Generator` and returns a dict of scalar losses,
        whose sum is minimised.
    optimizer : torch.optim.Optimizer
    steps : int
    identity : dict, optional
        What else decides the result (data, settings); a checkpoint of another identity is refused.
    schedule : callable, optional
        The learning rate's factor at a step, ``schedule(step) -> float``.
    clip_norm : float, optional
        Gradients longer than this are shortened to it.
    validate : callable, optional
        ``validate() -> float``, higher is better, called after every `every` steps and after the last one. The
        weights of the best value are kept (paper section 3.1); without it, the last ones.
    checkpoint : path, optional
        Where the state is kept every `every` steps. A file that is there already is continued.
    batch_names : callable, optional
        ``batch_names(generator)`` says what the batch of a step holds, a list of str; for the error of a bad loss.
    deadline : float, optional
        A value of `time.monotonic` after which training stops with `OutOfTime`, its state saved.

    Returns
    -------
    History

    Raises
    ------
    TrainingError
        The loss is not finite.
    CheckpointError
        The checkpoint is corrupt, or of another model, seed or identity.
    """
    history, first, best = History(), 0, None
    identity = json.loads(json.dumps({"seed": seed, "steps": steps} | (identity or {})))  # as it is read back
    if checkpoint and Path(checkpoint).exists():
        history, first, best = _restore(checkpoint, model, optimizer, identity)
    rates = [group["lr"] for group in optimizer.param_groups]  # as the caller set them; the schedule scales them
    bar = progress_bar(range(first, steps), label, total=steps)
    bar.update(first)
    for step in bar:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (schedule(step) if schedule else 1)
        model.train()
        stream = seed * 1_000_003 + step
        terms = batch_loss(torch.Generator().manual_seed(stream))
        loss = sum(terms.values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
        if not torch.isfinite(loss + norm):
            saved = checkpoint and Path(checkpoint).exists()
            kept = f" {Path(checkpoint).name} holds the last good state." if saved else ""
            found = f"loss {loss.item()}, gradient {norm.item()} at step {step + 1}"
            names = batch_names(torch.Generator().manual_seed(stream)) if batch_names else ()
            batch = f", whose batch holds {', '.join(names)}" if names else ""
            raise TrainingError(f"{label}: {found}{batch}; look at these scans or lower the learning rate.{kept}")
        optimizer.step()
        history.loss.append({name: term.item() for name, term in terms.items()})
        done = step + 1
        milestone = done % every == 0 or done == steps
        if milestone and validate:
            model.eval()
            value = float(validate())
            if not math.isfinite(value):
                raise TrainingError(
                    f"{label}: the validation score is {value}; is there anything to find in those scans?"
                )
            history.validation.append([done, value])
            bar.set_postfix(loss=f"{loss.item():.3f}", validation=f"{value:.3f}")
            if value >= max(v for _, v in history.validation):
                history.best_step = done
                best = {k: v.detach().clone() for k, v in model.state_dict().items()}
        late = deadline is not None and time.monotonic() > deadline and done < steps
        if checkpoint and (milestone or late):
            _save(checkpoint, model, optimizer, history, done, best, identity)
        if late:
            raise OutOfTime
    if best:
        model.load_state_dict(best)
    else:
        history.best_step = steps
    model.eval()
    return history


def save_tensors(path, tensors, facts):
    """Write tensors and a JSON-able dict of facts as one safetensors file, whole or not at all."""
    header, tensors = {"facts": json.dumps(facts)}, {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with writing(path, CheckpointError) as temporary:
        save_file(tensors, temporary, header)


def load_tensors(path):
    """Read what `save_tensors` wrote: (tensors, facts).

    Raises
    ------
    CheckpointError
        The file is missing, cut short or was not written by segdet.
    """
    try:
        with safe_open(path, "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["facts"])  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; train first with `segdet fit`") from error
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of segdet ({error}); delete it to start again") from error


def _save(path, model, optimizer, history, step, best, identity):
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    save_tensors(path, tensors, {"step": step, "identity": identity, "history": asdict(history)})


def _restore(path, model, optimizer, identity):
    tensors, facts = load_tensors(path)

    def part(name):
        return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

    for key, value in identity.items():
        if facts["identity"].get(key) != value:
            found = facts["identity"].get(key)
            raise CheckpointError(f"{path}: made with {key} {found}, not {value}; delete it or name another folder")
    states = {}
    for key, value in part("optimizer.").items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = value
    try:
        model.load_state_dict(part("model."))
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        for index, state in states.items():
            if any(v.ndim and v.shape != trained[index].shape for v in state.values()):
                raise ValueError("optimiser state of other parameters")
    except (RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: belongs to another model; delete it or name another folder") from error
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return History(**facts["history"]), facts["step"], part("best.") or None
