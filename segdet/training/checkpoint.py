"""The state of a training as one safetensors file that a kill at any moment leaves whole (chapter 08)."""

import math
from dataclasses import asdict, dataclass, field

import torch

from ..errors import CheckpointError
from ..runtime.tensors import load_facts, load_tensors, save_tensors


@dataclass
class History:
    """What happened in training.

    Attributes
    ----------
    loss : list of dict
        One entry a step: every term of the loss.
    validation, watched : list of [step, value]
        The scores of `validate`, and what `watch` returned (`segdet.training.loop.fit`).
    best_step : int
        After how many steps the kept weights were reached.
    identity : str
        A digest of what decided the result: data, settings, layers, seed.
    seconds : float
        How long the steps that count took, over all interruptions; NaN where a state of before does not say it.
    """

    loss: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    watched: list = field(default_factory=list)
    best_step: int = 0
    identity: str = ""
    seconds: float = field(default=0.0, compare=False)

    def curve(self, term=None):
        """The loss at every step, (steps,): one term, or the sum of all."""
        return torch.tensor([sum(e.values()) if term is None else e[term] for e in self.loss])


def forget(folder, seed, name="*"):
    """Delete the states of a seed's trainings, or of the one of that name, which are no longer needed."""
    for path in folder.glob(f"{seed}-{name}.safetensors"):
        path.unlink()


def shares_done(folder, left, profile):
    """How far the trainings are that have left their states in a folder.

    Parameters
    ----------
    folder : Path
    left : dict
        From a seed to the names of the trainings that it needs besides detectors called ``detector...``.
    profile : Profile

    Returns
    -------
    detectors, segmenters : float
        Steps that are done, over those that one takes at this profile.
    """
    done, steps = {True: 0.0, False: 0.0}, {True: profile.detector_steps, False: profile.segmenter_steps}
    for seed, names in left.items():
        for path in folder.glob(f"{seed}-*.safetensors"):
            name = path.stem.removeprefix(f"{seed}-")
            if name in names or name.startswith("detector"):
                tensors, facts = load_facts(path)
                is_detector = any(name.startswith("model.backbone.") for name in tensors)
                done[is_detector] += facts["step"] / steps[is_detector]
    return done[True], done[False]


def forget_arms(folder, seed, arms, needed):
    """`forget` the states of a seed's arms and, unless they are `needed` later, of its detectors."""
    for name in arms if needed else ["*"]:
        forget(folder, seed, name)


def save_state(path, model, optimizer, history, step, best, identity):
    """Write what `restore_state` needs to go on after `step` steps; `best` are the best weights so far, or None."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    save_tensors(path, tensors, {"step": step, "identity": identity, "history": asdict(history)})


def restore_state(path, model, optimizer, identity):
    """Bring model and optimiser back to where `save_state` found them: (history, step, best).

    Raises
    ------
    CheckpointError
        The file is corrupt, or of another model or identity.
    """
    tensors, facts = load_tensors(path)

    def part(name):
        return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

    there = facts.get("identity", {})
    for key in identity | there:
        if there.get(key) != identity.get(key):
            way_out = "go on with the same, delete it or name another folder"
            raise CheckpointError(f"{path}: made with {key} {there.get(key)}, not {identity.get(key)}; {way_out}")
    states = {}
    try:
        model.load_state_dict(part("model."))
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            if value.ndim:  # a moment, in the memory layout of its parameter
                if value.shape != trained[int(index)].shape:
                    raise ValueError("optimiser state of other parameters")
                value = torch.empty_like(trained[int(index)]).copy_(value)
            states.setdefault(int(index), {})[name] = value
        history, step = History(**{"seconds": math.nan} | facts["history"]), facts["step"]
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: belongs to another model; delete it or name another folder") from error
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return history, step, part("best.") or None
