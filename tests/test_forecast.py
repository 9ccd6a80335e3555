"""What `make book` says before it begins: time, the quicker profile, precision and memory."""

import json
from pathlib import Path
from types import SimpleNamespace

import forecast
import pytest
import torch
from conftest import ROOT

from segdet.bench import measure
from segdet.experiments import chapters, cost
from segdet.experiments.config import PROFILES
from segdet.experiments.memory import predicted
from segdet.runtime import tensors

MINUTE = 60.0
STORED = json.loads((ROOT / "results/book.json").read_text()).values()


def test_the_stored_times_are_of_a_machine_that_did_nothing_else():
    """Else every forecast is wrong that rests on them: `make refresh` again, alone."""
    phantoms = [row["phantom"] for row in STORED]
    assert max(phantoms) < 2 * min(phantoms)


def test_what_was_foretold_for_the_stored_chapters_is_what_they_took():
    foretold, took = (sum(row[key] for row in STORED) for key in ("foretold", "seconds"))
    assert took / 1.5 < foretold < 1.5 * took


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which one chapter takes half a minute at quick and 40 minutes at laptop, with 4 GiB free."""
    seconds = {"smoke": 5.0, "quick": 30.0, "laptop": 40 * MINUTE, "paper": 4000 * MINUTE}
    monkeypatch.setenv("SEGDET_DEVICE", "cpu")
    monkeypatch.setattr(forecast, "predicted", lambda root, profile, chapters: {"05-detector": seconds[profile]})
    monkeypatch.setattr(forecast, "trained", lambda profile: {})
    monkeypatch.setattr(forecast.psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 2**30))
    monkeypatch.setattr(cost, "seconds_of_a_phantom", lambda: 1.0)
    monkeypatch.setattr(cost, "matmul_rate", lambda device, dtype: {torch.float32: 1e11, torch.bfloat16: 4e11}[dtype])
    monkeypatch.setattr(measure, "precisions", lambda device: ["float32"])
    (tmp_path / "results").mkdir()
    (tmp_path / "results/book.json").write_text(json.dumps({"05-detector": {"gib": 2.0}, "gpu": {"gib": 0.5}}))
    return SimpleNamespace(root=tmp_path, seconds=seconds)


def said(machine, capsys, named):
    chosen, found = forecast.choose_profile(machine.root, named, lambda profile: [Path("05-detector.ipynb")])
    assert found == {"05-detector": machine.seconds[chosen]}
    return chosen, capsys.readouterr().out.splitlines()


def test_without_a_name_quick_is_taken_where_laptop_takes_too_long(machine, capsys):
    chosen, lines = said(machine, capsys, None)
    assert chosen == "quick"
    assert lines[0].endswith("cores, matrix product 100 GFLOP/s in float32")
    assert lines[1] == "profile quick: about 2 min here (05-detector 30 s, the pages 80 s)"
    assert lines[2] == "memory: about 2.0 GiB; 4.0 GiB are free"
    assert lines[3] == "the profile laptop would take about 41 min"
    assert lines[4] == "SEGDET_PROFILE=smoke, quick, laptop or paper before `make book` chooses"


def test_a_large_profile_says_what_the_quicker_one_takes(machine, capsys):
    for named in ("laptop", "paper"):
        chosen, lines = said(machine, capsys, named)
        assert chosen == named
        assert lines[3:] == ["the profile quick would take about 2 min"]
    machine.seconds["laptop"] = 20 * MINUTE
    chosen, lines = said(machine, capsys, None)
    assert chosen == "laptop"
    assert lines[3] == "the profile quick would take about 2 min"


def test_the_rate_is_that_of_the_precision_in_use(machine, monkeypatch, capsys):
    monkeypatch.setattr(measure, "precisions", lambda device: ["float32", "bfloat16"])
    assert said(machine, capsys, "quick")[1][0].endswith("cores, matrix product 400 GFLOP/s in bfloat16")


def test_memory_is_that_of_the_profile_and_too_little_is_said(machine, capsys):
    """The stored chapters took 2 GiB at quick; the trainings of paper need so much more than those of quick."""
    cpu = torch.device("cpu")
    of = {name: max(n.gib(cpu) for n in predicted(PROFILES[name]).values()) for name in ("quick", "paper")}
    need = 2 + of["paper"] - of["quick"]
    assert need > 4
    _, lines = said(machine, capsys, "paper")
    assert lines[2] == (
        f"memory: about {need:.1f} GiB; 4.0 GiB are free: too little; close other programs or take a smaller profile"
    )
    assert said(machine, capsys, "smoke")[1][2] == "memory: about 2.0 GiB; 4.0 GiB are free"


def test_what_is_trained_is_read_from_headers(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGDET_CACHE", str(tmp_path))
    folder = tmp_path / "networks-a"
    monkeypatch.setattr(chapters, "folder_of", lambda parent, backbone: folder)
    nothing = dict.fromkeys(forecast.NETWORKS, 0.0)
    assert forecast.trained.__wrapped__("smoke") == nothing
    for name, step in (("unet", 3), ("box3d", 12)):
        path = folder / "smoke" / f"0-{name}-{'a' * 16}.safetensors"
        tensors.save_tensors(path, {"model.a": torch.zeros(1)}, {"step": step, "identity": {"steps": 12}})
    monkeypatch.setattr(tensors, "load_tensors", None)
    assert forecast.trained.__wrapped__("smoke") == nothing | {"unet": 0.25, "box3d": 1.0}
