"""The training loop: resume is exact, the best weights are kept, bad states end in one clear line."""

import time

import pytest
import torch
from torch import nn

from segdet.errors import CheckpointError, SegdetError, TrainingError
from segdet.training import OutOfTime, default_device, fit, load_tensors, save_tensors


def problem(steps, *, checkpoint=None, deadline=None, seed=3, every=4, validate=None, rate=0.05):
    """A small regression whose batches depend on the generator, with Adam's two moments to restore."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), rate)

    def batch_loss(generator):
        x = torch.randn(16, 4, generator=generator)
        return {"square": ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()}

    history = fit(
        model, batch_loss, optimizer, steps, seed=seed, every=every, checkpoint=checkpoint, deadline=deadline,
        schedule=lambda step: 1 / (1 + step), validate=validate and (lambda: validate(model)),
    )  # fmt: skip
    return model, history


def test_it_learns():
    torch.manual_seed(0)
    _, history = problem(200)
    curve = history.curve()
    assert curve[-20:].mean() < 0.5 * curve[:5].mean()
    assert history.best_step == 200


@pytest.mark.parametrize("stop", [1, 4, 7, 12])
def test_resume_is_bit_identical(tmp_path, stop):
    """Also the best weights so far: the score is best in the middle and depends on the model alone."""

    def score(model):
        return -abs(model[0].weight.norm().item() - middle)

    middle = float("nan")
    norms = []
    problem(13, validate=lambda model: norms.append(model[0].weight.norm().item()) or 0.0)
    middle = norms[1]
    whole, history = problem(13, validate=score)
    assert history.best_step == 8
    path = tmp_path / "state.safetensors"

    class Kill(Exception):
        pass

    calls = 0

    def killer(model):  # stands for a kill between two checkpoints
        nonlocal calls
        calls += 1
        if calls * 4 > stop:
            raise Kill
        return score(model)

    with pytest.raises(Kill):
        problem(13, checkpoint=path, validate=killer)
    resumed, again = problem(13, checkpoint=path, validate=score)
    assert again.best_step == 8
    assert again.validation == history.validation
    assert again.loss == history.loss
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_deadline_saves_and_resumes(tmp_path):
    whole, _ = problem(9)
    path = tmp_path / "state.safetensors"
    for _ in range(8):
        with pytest.raises(OutOfTime):
            problem(9, checkpoint=path, deadline=time.monotonic() - 1)
    resumed, _ = problem(9, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_best_on_validation_is_kept():
    values = iter([0.1, 0.9, 0.3])
    seen = []

    def validate(model):
        seen.append(model[0].weight.detach().clone())
        return next(values)

    model, history = problem(12, validate=validate)
    assert history.validation == [[4, 0.1], [8, 0.9], [12, 0.3]]
    assert history.best_step == 8
    assert torch.equal(model[0].weight, seen[1])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    path = tmp_path / "state.safetensors"
    model = nn.Linear(1, 1)
    count = 0

    def batch_loss(_generator):
        nonlocal count
        count += 1
        return {"loss": model.weight.sum() * (float("nan") if count > 5 else 1.0)}

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(TrainingError, match=r"loss nan, .* at step 6; .* state\.safetensors holds the last good state"):
        fit(model, batch_loss, optimizer, 10, seed=0, every=2, checkpoint=path)
    assert load_tensors(path)[1]["step"] == 4


def test_a_gradient_or_score_that_is_not_finite_stops():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def root(_generator):  # finite at 0, its slope is not
        return {"loss": (model.weight * 0).sum().sqrt()}

    with pytest.raises(TrainingError, match=r"loss 0\.0, gradient (nan|inf) at step 1"):
        fit(model, root, optimizer, 2, seed=0)
    with pytest.raises(TrainingError, match="the validation score is nan"):
        problem(4, validate=lambda _model: float("nan"))


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", "warp")
    with pytest.raises(SegdetError, match="SEGDET_DEVICE=warp cannot be used here"):
        default_device()


def test_foreign_and_corrupt_checkpoints(tmp_path):
    path = tmp_path / "state.safetensors"
    problem(4, checkpoint=path)
    with pytest.raises(CheckpointError, match="made with seed 3, not 5"):
        problem(8, checkpoint=path, seed=5)
    with pytest.raises(CheckpointError, match="made with steps 4, not 8"):
        problem(8, checkpoint=path)
    other = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        fit(other, None, torch.optim.SGD(other.parameters(), 0.1), 4, seed=3, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="not a checkpoint of segdet"):
        problem(8, checkpoint=path)
    save_tensors(path, {"a": torch.zeros(1)}, {})
    path.with_name("x").write_text("{}")
    with pytest.raises(CheckpointError, match="no such file"):
        load_tensors(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_tensors(path.with_name("x"))


def test_save_leaves_no_trace_when_it_fails(tmp_path):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(TypeError):
        save_tensors(path, {"a": torch.ones(2)}, {"step": object()})
    assert load_tensors(path)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
