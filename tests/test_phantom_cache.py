"""The cache of simulated hips: what it returns, when it makes anew, and that nothing is half written."""

import numpy as np
import pytest

from segdet.errors import SegdetError
from segdet.phantom import acoustics, make
from segdet.phantom import cache as caching
from segdet.phantom.cache import cached_phantom, cached_phantoms
from segdet.phantom.make import make_phantom

SMALL = (16, 24, 16)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGDET_CACHE", str(tmp_path))
    return tmp_path / "phantoms"


def same(a, b):
    np.testing.assert_array_equal(a.voxels, b.voxels)
    np.testing.assert_array_equal(a.mask, b.mask)
    np.testing.assert_array_equal(a.affine, b.affine)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert (a.name, a.meta, a.label_names) == (b.name, b.meta, b.label_names)


def test_a_kept_phantom_is_the_phantom(cache, monkeypatch):
    made = make_phantom(3, SMALL, side="right")
    same(cached_phantom(3, shape=SMALL, side="right"), made)
    monkeypatch.setattr(acoustics, "make_phantom", None)  # from now on only the file can answer
    same(cached_phantom(3, shape=SMALL, side="right"), made)
    assert len(list(cache.iterdir())) == 1


def test_version_2_is_kept_with_its_labels(cache, monkeypatch):
    options = {"shape": SMALL, "version": 2, "preset": "varied"}
    made = make.make_phantom(3, **options)
    same(cached_phantom(3, **options), made)
    monkeypatch.setattr(make, "make_phantom", None)
    same(cached_phantom(3, **options), made)
    assert made.labels.any()


def test_files_of_version_1_follow_from_its_own_code(cache, monkeypatch):
    """An edit of version 2 makes its hips anew and leaves the others; to name version 1 names no other file."""
    first = cached_phantom(3, shape=SMALL)
    monkeypatch.setattr("segdet.phantom.cache.MADE_BY_2", "edited")
    same(cached_phantom(3, shape=SMALL, version=1, preset=None), first)
    assert len(list(cache.iterdir())) == 1
    cached_phantom(3, shape=SMALL, version=2)
    assert len(list(cache.iterdir())) == 2


def test_other_options_are_other_files(cache):
    for options in ({}, {"side": "left"}, {"contrast_db": 3.0}, {"age_days": 50}):
        cached_phantom(3, shape=SMALL, **options)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"PK" * 999])
def test_a_damaged_file_is_made_anew(damage, cache):
    made = cached_phantom(5, shape=SMALL)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    same(cached_phantom(5, shape=SMALL), made)
    assert len(file.read_bytes()) == len(whole)


def test_many_at_a_time_in_the_order_asked_for(cache):
    requests = [(seed, {"shape": SMALL, "side": ("left", "right")[seed % 2]}) for seed in (8, 3, 5, 4, 8)]
    for volume, (seed, options) in zip(cached_phantoms(requests), requests, strict=True):
        same(volume, make_phantom(seed, **options))
    assert sorted(path.suffix for path in cache.iterdir()) == [".npz"] * 4


def test_the_same_one_asked_for_at_the_same_time(cache):
    made = make_phantom(7, SMALL)
    for _ in range(5):
        for volume in cached_phantoms([(7, {"shape": SMALL})] * 8):
            same(volume, made)
        (file,) = cache.iterdir()
        file.unlink()


def test_an_error_in_one_reaches_the_caller_and_leaves_no_piece(cache):
    with pytest.raises(SegdetError, match="age_days"):
        cached_phantoms([(1, {"shape": SMALL}), (2, {"shape": SMALL, "age_days": 999})])
    assert all(path.suffix == ".npz" and not path.name.startswith(".") for path in cache.iterdir())


def test_whoever_interrupts_does_not_wait_for_all(cache, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt  # before the first is asked for

    monkeypatch.setattr(caching, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_phantoms([(seed, {"shape": SMALL}) for seed in range(60)])
    assert not cache.exists() or len(list(cache.iterdir())) < 30
