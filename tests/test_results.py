"""The store of results: rows survive the trip, and a study cannot change under its name."""

import numpy as np
import pytest

from segdet.errors import SegdetError
from segdet.results import Study


def test_rows_come_back(tmp_path):
    study = Study(tmp_path / "s")
    assert study.table("cases") == []
    study.add("cases", [{"seed": 1, "arm": "unet", "case": "b", "iou": 0.5, "hd95_mm": float("inf")}])
    study.add("cases", [{"seed": 0, "arm": "unet", "case": "a", "iou": 1 / 3, "hd95_mm": 2.0}])
    study.add("cases", [{"seed": 0, "arm": "box3d", "case": "a", "iou": 1, "hd95_mm": float("nan")}])
    rows = study.table("cases")
    assert rows[0] == {"seed": 1, "arm": "unet", "case": "b", "iou": 0.5, "hd95_mm": float("inf")}
    np.testing.assert_allclose(study.column("unet"), [0.333333, 0.5])  # ordered by seed
    assert study.done(0, "box3d")
    assert not study.done(1, "box3d")


def test_a_study_keeps_its_settings(tmp_path):
    study = Study(tmp_path)
    study.describe(profile="smoke", data="phantom")
    study.describe(profile="smoke", device="cpu")
    assert study.manifest == {"profile": "smoke", "data": "phantom", "device": "cpu"}
    with pytest.raises(SegdetError, match="with profile 'smoke', not 'laptop'; name another"):
        study.describe(profile="laptop")
    assert study.manifest["profile"] == "smoke"


def test_a_row_of_the_same_name_is_replaced(tmp_path):
    study = Study(tmp_path)
    row = {"seed": 0, "arm": "unet", "case": "001", "iou": 0.5}
    study.add("cases", [row, row | {"case": "1"}])
    study.add("cases", [row | {"iou": 0.75}])
    assert study.table("cases") == [row | {"iou": 0.75}, row | {"case": "1"}]  # "001" is a name, not the number 1


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text('{"profile": ')
    with pytest.raises(SegdetError, match=r"manifest\.json: not valid JSON"):
        Study(tmp_path).describe(profile="smoke")
