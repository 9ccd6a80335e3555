"""The training loop: resume is exact, the best weights are kept, bad states end in one clear line."""

import math
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import parallel_training
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from segdet.errors import CheckpointError, SegdetError, TrainingError
from segdet.runtime import device as runtime_device
from segdet.runtime.device import default_device, precision, random_state_kept
from segdet.runtime.tensors import load_facts, load_tensors, save_tensors
from segdet.training.loop import OutOfTime, fit


def problem(
    steps, *, checkpoint=None, deadline=None, seed=3, every=4, validate=None, watch=None, rate=0.05, identity=None
):
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
        watch=watch, identity=identity,
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


def test_what_is_watched_outlives_a_stop(tmp_path):
    def watch(model):
        return [model.training, *model[0].bias.tolist()]

    whole, history = problem(6, watch=watch)
    assert [step for step, _ in history.watched] == [4, 6]
    assert history.watched[1][1] == [False, *whole[0].bias.tolist()]
    assert history.watched[0][1] != history.watched[1][1]
    for _ in range(6):  # one step at a time
        with suppress(OutOfTime):
            _, resumed = problem(6, watch=watch, checkpoint=tmp_path / "state", deadline=0)
    assert resumed.watched == history.watched


def test_the_seconds_of_a_training_outlive_a_stop(tmp_path, monkeypatch):
    """10 s a step, and an hour from each stop to the next start, which does not count."""
    path, now = tmp_path / "state.safetensors", [5000.0]
    monkeypatch.setattr("segdet.training.loop.time", SimpleNamespace(monotonic=lambda: now[0]))

    def watch(model):
        now[0] += 10

    for _ in range(6):
        with suppress(OutOfTime):
            _, history = problem(6, every=1, watch=watch, checkpoint=path, deadline=0)
        now[0] += 3600
    assert history.seconds == 60
    assert problem(6, every=1, watch=watch, checkpoint=path)[1].seconds == 60  # read back
    tensors, facts = load_tensors(path)
    del facts["history"]["seconds"]  # as a state of before
    save_tensors(path, tensors, facts)
    assert math.isnan(problem(6, every=1, watch=watch, checkpoint=path)[1].seconds)


def forkserver():
    """Makes processes that start with PyTorch already imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "segdet.phantom.cache", "segdet.training.loop", "segdet.unet3d"])
    return context


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    """20 times SIGKILL, also in the middle of a write: what is resumed ends in the same bytes."""
    path, steps = tmp_path / "state.safetensors", 120

    def start(checkpoint, out=None):
        checkpoint.with_suffix(".begun").unlink(missing_ok=True)
        process = forkserver().Process(target=parallel_training.alone, args=(out, checkpoint, steps))
        process.start()
        while process.is_alive() and not checkpoint.with_suffix(".begun").exists():
            time.sleep(0.001)
        return process

    whole, begun = start(tmp_path / "other.safetensors", tmp_path / "whole"), time.monotonic()
    whole.join()
    seconds, rng, reached = time.monotonic() - begun, random.Random(0), []
    for _ in range(20):
        process = start(path)
        time.sleep(rng.uniform(0, seconds / 5))
        process.kill()
        process.join()
        reached.append(load_tensors(path)[1]["step"] if path.exists() else 0)
    assert reached == sorted(reached)
    assert len({step for step in reached if 0 < step < steps}) >= 5, reached
    last = start(path, tmp_path / "resumed")
    last.join()
    assert (whole.exitcode, last.exitcode) == (0, 0)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_two_at_once_make_one_phantom_and_one_training(tmp_path):
    """Two processes want the same phantom and the same network: each is made once, and both get it."""
    both = [forkserver().Process(target=parallel_training.beside_another, args=(n, tmp_path)) for n in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted((tmp_path / "log").read_text().split()) == ["phantom"] + ["step"] * 8
    for what in ("phantom", "weights"):
        assert (tmp_path / f"{what}0").read_bytes() == (tmp_path / f"{what}1").read_bytes()
    assert [path.suffix for path in (tmp_path / "cache/phantoms").iterdir()] == [".npz"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # no lock


def test_two_processes_equal_one(tmp_path):
    """Under torchrun, over gloo: the weights of one process with the same two batches a step."""
    script = Path(parallel_training.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, tmp_path / "two"], env=os.environ | hidden, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    parallel_training.train(tmp_path / "one", batches=2)
    two, one = (load_tensors(tmp_path / name)[0] for name in ("two", "one"))
    for name, value in one.items():
        if value.is_floating_point():  # the others count the batches that a process has seen
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
    parallel_training.train(tmp_path / "half", batches=1)
    half = load_tensors(tmp_path / "half")[0]
    assert not torch.allclose(half["1.head.weight"], one["1.head.weight"], rtol=0, atol=1e-5)


def test_batches_are_averaged():
    """Two batches of one scan each step as one batch of both, where no statistics are shared."""
    x, y = torch.randn(2, 4), torch.randn(2, 1)
    weights = []
    for batches in (1, 2):
        model = nn.Linear(4, 1, bias=False)
        nn.init.ones_(model.weight)
        turn = iter(range(100))

        def batch_loss(_generator, model=model, turn=turn, batches=batches):
            part = slice(None) if batches == 1 else [next(turn) % 2]
            return {"square": ((model(x[part]) - y[part]) ** 2).mean()}

        fit(model, batch_loss, torch.optim.SGD(model.parameters(), 0.1), 3, seed=0, batches=batches)
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)


def test_no_two_batches_of_a_training_are_drawn_alike():
    model, drawn = nn.Linear(4, 1), []

    def batch_loss(generator):
        drawn.append(torch.rand((), generator=generator).item())
        return {"loss": model(torch.ones(4)).sum()}

    fit(model, batch_loss, torch.optim.SGD(model.parameters(), 0.1), 20, seed=0, batches=4)
    assert len(set(drawn)) == 80


def test_running_statistics_of_a_step_are_the_mean_of_its_batches():
    model, inputs = nn.BatchNorm1d(1, affine=True), iter([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [5.0]])])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    fit(model, lambda _: {"loss": model(next(inputs)).sum()}, optimizer, 1, seed=0, batches=2)
    assert model.running_mean.item() == pytest.approx((0.1 * 2 + 0.1 * 5) / 2)
    assert model.running_var.item() == pytest.approx(((0.9 + 0.1 * 2) + 0.9) / 2)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 8 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_too_little_memory_is_one_line(tmp_path, error):
    path = tmp_path / "state.safetensors"
    model, turn = nn.Linear(1, 1), iter(range(9))

    def batch_loss(_generator):
        if next(turn) == 3:
            raise error
        return {"loss": model.weight.sum()}

    with pytest.raises(TrainingError, match=r"training, step 4: memory does not suffice; take a smaller profile"):
        fit(model, batch_loss, torch.optim.SGD(model.parameters(), 0.1), 9, seed=0, every=2, checkpoint=path)
    assert load_tensors(path)[1]["step"] == 2


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(nn.Linear(2, 2), lambda _: {"a": torch.ones(2, 3) @ torch.ones(2, 3)}, some_optimizer(), 1, seed=0)


def some_optimizer():
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)


def test_a_full_disk_keeps_the_last_state(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    with pytest.raises(OutOfTime):
        problem(4, checkpoint=path, deadline=0)
    before = path.read_bytes()

    def full(tensors, name, header):
        Path(name).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdet.runtime.tensors.save_file", full)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot be written \(No space left on device\)"):
        problem(4, checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    resumed, _ = problem(4, checkpoint=path)
    whole, _ = problem(4)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_curves_for_tensorboard(tmp_path):
    """Both networks of a cascade, the second interrupted; no point is lost or hidden."""
    path, logs = tmp_path / "state.safetensors", tmp_path / "logs"
    for label, deadlines in (("one", [None]), ("two", [0, None, None])):
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loss = lambda _, model=model: {"loss": model.weight.square().sum()}  # noqa: E731
        for deadline in deadlines:
            with suppress(OutOfTime):
                history = fit(
                    model, loss, optimizer, 4, seed=0, every=2, validate=lambda: 0.5, label=label, log=logs,
                    deadline=deadline, checkpoint=path,
                )  # fmt: skip
            time.sleep(1)  # files of curves are ordered by the second in their names
        path.unlink()
        assert not [t for t in threading.enumerate() if type(t).__name__ == "_AsyncWriterThread"]  # each was closed
        events = EventAccumulator(str(logs / label))
        events.Reload()
        assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
        assert [e.value for e in events.Scalars("loss")] == pytest.approx([e["loss"] for e in history.loss])
        assert [(e.step, e.value) for e in events.Scalars("validation")] == [(2, 0.5), (4, 0.5)]


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
    assert problem(12, validate=lambda model: 0.5)[1].best_step == 12  # of equal ones the last


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


def test_clipping_and_schedule():
    """One weight, a gradient of 10 and plain gradient descent with rate 1: the steps are known."""

    def trained(steps, **options):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        fit(
            model,
            lambda _: {"a": 10 * model.weight.sum()},
            torch.optim.SGD(model.parameters(), 1.0),
            steps,
            seed=0,
            **options,
        )
        return model.weight.item()

    assert trained(2) == -20
    assert trained(2, schedule=lambda step: (1, 0.5)[step]) == -15
    assert trained(1, clip_norm=0.5) == pytest.approx(-0.5)


def test_a_checkpoint_of_another_normalisation_or_optimiser(tmp_path):
    """Their parameters have the same names and shapes."""

    def train(norm, optimizer):
        model = nn.Sequential(nn.Linear(2, 2), norm, nn.Flatten(0))
        x = torch.ones(3, 2, 4, 4)
        loss = lambda _: {"a": model[1](x).sum()}  # noqa: E731
        fit(model, loss, optimizer(model.parameters(), lr=0.1), 2, seed=0, checkpoint=tmp_path / "state")

    train(nn.GroupNorm(1, 2), torch.optim.Adam)
    with pytest.raises(CheckpointError, match="made with network"):
        train(nn.InstanceNorm2d(2, affine=True), torch.optim.Adam)
    with pytest.raises(CheckpointError, match="made with optimizer Adam, not SGD"):
        train(nn.GroupNorm(1, 2), torch.optim.SGD)


@pytest.mark.parametrize(("first", "then"), [({}, {"recipe": "gain"}), ({"recipe": "gain"}, {})])
def test_a_checkpoint_of_more_or_less_is_another(tmp_path, first, then):
    """What only one of two trainings has in its identity parts them, whichever was there first."""
    problem(4, checkpoint=tmp_path / "state", identity=first)
    found, wanted = first.get("recipe"), then.get("recipe")
    with pytest.raises(CheckpointError, match=f"made with recipe {found}, not {wanted}"):
        problem(4, checkpoint=tmp_path / "state", identity=then)


@pytest.mark.parametrize("kind", ["mps", "cuda"])
def test_the_random_state_of_a_gpu_is_kept(kind, monkeypatch):
    """A generator that stands for that of the GPU, which this machine may lack."""
    generator, module = torch.Generator(), getattr(torch, kind)
    monkeypatch.setattr(runtime_device, "default_device", lambda: torch.device(kind))
    monkeypatch.setattr(module, "get_rng_state", lambda device: generator.get_state())
    monkeypatch.setattr(module, "set_rng_state", lambda state, device: generator.set_state(state))
    before = torch.get_rng_state(), generator.get_state()
    with random_state_kept():
        torch.rand(2), torch.rand(2, generator=generator)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(generator.get_state(), before[1])


@pytest.mark.parametrize("device", ["warp", "meta"])  # the second holds no values
def test_a_device_that_is_not_there(device, monkeypatch):
    monkeypatch.setenv("SEGDET_DEVICE", device)
    with pytest.raises(SegdetError, match=f"SEGDET_DEVICE={device} cannot be used here .*; unset it or use cpu$"):
        default_device()


def test_foreign_and_corrupt_checkpoints(tmp_path):
    path = tmp_path / "state.safetensors"
    problem(4, checkpoint=path)
    with pytest.raises(CheckpointError, match="made with seed 3, not 5"):
        problem(8, checkpoint=path, seed=5)
    with pytest.raises(CheckpointError, match="made with steps 4, not 8"):
        problem(8, checkpoint=path)
    other = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="made with network"):
        fit(other, None, torch.optim.SGD(other.parameters(), 0.1), 4, seed=3, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"not a checkpoint of segdet .*; delete it to start again$"):
        problem(8, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"no such file; train first with `segdet fit`$"):
        load_tensors(path.with_name("none.safetensors"))
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="made with seed None"):
        problem(4, checkpoint=path)
    problem(4, checkpoint=tmp_path / "whole")
    tensors, facts = load_tensors(tmp_path / "whole")
    assert load_facts(tmp_path / "whole") == (list(tensors), facts)
    for damaged in ({k: v for k, v in facts.items() if k != "step"}, facts | {"history": {"losses": []}}):
        save_tensors(path, tensors, damaged)
        with pytest.raises(CheckpointError, match="belongs to another model; delete it"):
            problem(4, checkpoint=path)
    save_tensors(path, tensors, ["no", "facts"])
    path.with_name("x").write_text("{}")
    for load in (load_tensors, load_facts):
        with pytest.raises(CheckpointError, match="not a checkpoint of segdet"):
            load(path)
        with pytest.raises(CheckpointError, match="no such file"):
            load(tmp_path / "missing")
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            load(path.with_name("x"))


def test_a_colleague_may_read_what_is_saved(tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {})
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_save_leaves_no_trace_when_it_fails(tmp_path):
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(TypeError):
        save_tensors(path, {"a": torch.ones(2)}, {"step": object()})
    assert load_tensors(path)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_named_precision_decides(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setenv("SEGDET_PRECISION", "bfloat16")
    with precision(cpu):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with precision(cpu, smallest_side=2):  # where PyTorch's gradients in bfloat16 are not defined
        assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setenv("SEGDET_PRECISION", "float32")
    with precision(cpu):
        assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setenv("SEGDET_PRECISION", "float16")
    with pytest.raises(SegdetError, match="SEGDET_PRECISION=float16 is not known; set float32 or bfloat16"):
        precision(cpu)
