"""The paper's claims as measures with a verdict, bound to the tables that they rest on (protocol 2, chapter 10)."""

import hashlib
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import SegdetError
from ..experiments.perturb import DOSES
from ..experiments.study import Study
from ..runtime.atomic import write_text
from . import measures
from .verdicts import EQUIVALENT, Finding, judge, seed_values


@dataclass(frozen=True)
class Claim:
    """What the paper says, and the quantity that is positive where it holds.

    Attributes
    ----------
    key : str
        The claim's number in the protocol, with a letter where it has several measures.
    text, measure, paper : str
        `paper` is its number, empty where it gives none.
    quantity : callable
        One of `segdet.analysis.measures`.
    arms : tuple of str
        That the measure needs.
    bound : float or None
        See `segdet.analysis.verdicts.Finding`.
    primary : bool
        One of the three that Holm's correction covers.
    boxes : bool
        It is measured on the boxes of the arms' detectors, so their segmenters are not needed.
    counted : bool
        It follows from the settings and not from a training, so there is nothing to test and its interval is one value.
    """

    key: str
    text: str
    measure: str
    paper: str
    quantity: object
    arms: tuple[str, ...]
    bound: float | None = None
    primary: bool = False
    boxes: bool = False
    counted: bool = False


def _compared(key, text, first, second, paper="", primary=False):
    measure, quantity = f"IoU, {first} - {second}", measures.difference(first, second)
    return Claim(key, text, measure, paper, quantity, (first, second), EQUIVALENT, primary)


CLAIMS = (
    _compared("1", "ours is better than the 3D U-Net", "cascade", "unet", "+0.087", primary=True),
    _compared("2", "ours is better than the 3D mask", "cascade", "box3d", "+0.109", primary=True),
    _compared("2b", "the 3D mask is below the 3D U-Net", "unet", "box3d", "+0.022", primary=True),
    _compared("3a", "slice boxes localise better, both of the annotation", "slicebox", "box3d"),
    _compared("3b", "slice boxes localise better, both of the detector", "cascade", "box3d-detector"),
    Claim("4a", "faster", "steps saved to a common loss", "", measures.faster_to_a_loss, ("unet", "cascade")),
    Claim("4b", "faster", "steps saved to a common validation IoU", "", measures.faster_to_an_iou, ("unet", "cascade")),
    Claim("5", "more stable", "relative deviation of the loss saved", "", measures.calmer, ("unet", "cascade")),
    Claim(
        "6a", "better detection, better segmentation", "slope of IoU over the boxes' IoU, in test alone", "",
        measures.gain_from_better_boxes, ("slicebox",),
    ),
    Claim(
        "6b", "better detection, better segmentation", "the same slope, in training and test", "",
        measures.gain_from_better_boxes_in_training_too, ("slicebox", *DOSES),
    ),
    Claim("7", "smoother contour", "roughness in mm, unet - cascade", "", measures.smoother, ("unet", "cascade")),
    _compared("8a", "pre-trained weights help the masks", "cascade", "cascade-random"),
    Claim(
        "8b", "pre-trained weights help the boxes", "box IoU, ImageNet - random", "",
        measures.better_boxes, ("cascade", "cascade-random"), EQUIVALENT, boxes=True,
    ),
    Claim(
        "9a", "most help at low contrast", "fall of the gain with contrast, IoU a dB", "",
        measures.gain_over("contrast_db", -1), ("unet", "cascade"),
    ),
    Claim(
        "9b", "most help in much noise", "rise of the gain with noise, IoU a dB", "",
        measures.gain_over("noise_db", 1), ("unet", "cascade"),
    ),
    Claim(
        "10", "more efficient", "share of the operations saved", "",
        measures.work_saved, ("unet", "cascade"), counted=True,
    ),
    _compared("11", "a person does better than the detector", "person", "cascade"),
)  # fmt: skip


def judge_claims(study):
    """Every claim with its verdict and its `Finding`: a list of (Claim, str, Finding or None).

    A claim is "not run" where no seed of the study has all of its arms, or what is measured on them, and "untestable"
    where there can be nothing to measure, such as another contrast of a real scan, or where a seed has no finite value,
    such as the roughness of masks that are all empty. The arms count over the seeds that all of a claim's arms have.
    """
    study.check_cases()
    done = study.done()
    seeds = {seed for seed, _ in done}
    whole = {c for c in CLAIMS if any(done.issuperset((seed, arm) for arm in c.arms) for seed in seeds)}
    quantities = {claim: claim.quantity(study) for claim in CLAIMS if claim.boxes or claim in whole}
    values = {claim: seed_values(*quantity) for claim, quantity in quantities.items()}
    finite = {claim: bool(np.isfinite(found).all()) for claim, found in values.items()}
    ready = [claim for claim, found in values.items() if len(found) and finite[claim]]
    found = {}
    for group in ([c for c in ready if c.primary], *([c] for c in ready if not c.primary and not c.counted)):
        if group:
            findings = judge([quantities[claim] for claim in group], group[0].bound)
            found |= dict(zip(group, findings, strict=True))
    found |= {claim: _counted(values[claim]) for claim in ready if claim.counted}
    real = study.manifest.get("data") != "phantom"
    untestable = {claim for claim in CLAIMS if (real and claim in whole) or not finite.get(claim, True)}
    missing = {claim: "untestable" if claim in untestable else "not run" for claim in CLAIMS}
    return [(c, found[c].verdict if c in found else missing[c], found.get(c)) for c in CLAIMS]


def _counted(values):
    """The `Finding` of a value that is the same in every seed, whatever their number."""
    return Finding(tuple(values.tolist()), (float(values[0]),) * 2, p_holm=None, bound=None)


def command_of(claim, study):
    """What adds a claim's arms to a study; for scans of one's own, from the folder that holds theirs."""
    facts = study.manifest
    data, _, label = facts["data"].partition(", label ")
    _, _, preset = (facts.get("phantom_version") or "").partition(", ")
    development = facts["kind"] == "development"
    given = {
        "--profile": facts["profile"],
        "--preset": preset,
        "--data": shlex.quote(data) if data != "phantom" else "",
        "--label": label,
        "--steps": facts["settings"]["segmenter_steps"] if development else "",
        "--arms": ",".join(claim.arms),
        "--out": shlex.quote(study.folder.as_posix()),
    }
    options = [f"{name} {value}" for name, value in given.items() if value]
    return " ".join(["segdet confirm", *["--development"] * development, *options, "--resume"])


def as_facts(study):
    """The claims of a study as JSON-able facts, with the SHA-256 of every table that they rest on.

    The three primary claims have a `p_holm`, each other claim the `p` of a t test over seeds that nothing corrects. A
    counted claim has neither a p-value nor a number of seeds.
    """
    if not study.tables or study.manifest.get("protocol") != 2:
        raise SegdetError(f"{study.folder}: holds no study of protocol 2; make one with `segdet confirm`")
    claims = []
    for claim, verdict, finding in judge_claims(study):
        facts = {"claim": claim.key, "text": claim.text, "measure": claim.measure, "paper": claim.paper}
        if finding:
            facts |= {"ours": _rounded(finding.difference), "interval": _interval(finding.interval)}
            facts |= {"seeds": None if claim.counted else len(finding.values)}
            facts |= {"p_holm" if claim.primary else "p": None if claim.counted else _rounded(finding.p_holm)}
            facts |= {"bootstrap": _interval(finding.bootstrap)}
        facts["verdict"] = verdict
        claims.append(facts | {"command": command_of(claim, study)})
    manifest = study.manifest
    facts = {key: manifest.get(key) for key in ("protocol", "kind", "profile", "data", "phantom_version", "commit")}
    return {"study": study.folder.as_posix(), **facts, "tables": _checksums(study), "claims": claims}


def in_numbers(claim):
    """What was measured, what was found and its interval as text, of one of the claims of `as_facts`."""
    digits = 1 if claim["measure"].startswith("steps") else 3
    ours, *ends = (f"{value:+.{digits}f}" for value in (claim["ours"], *(claim["interval"] or ())))
    interval = " to ".join(ends) or "one seed, no interval"
    if claim["seeds"] is None:
        interval = "counted"
    return f"{claim['measure']}: {ours} ({interval})"


def write_claims(study, path):
    """Write `as_facts` as JSON; returns the facts. Of what is there, only another file of claims is replaced."""
    if Path(path).exists() and _read(path) is None:
        raise SegdetError(f"{path}: is there already and holds no claims; choose another name")
    facts = as_facts(study)
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return facts


def check_claims(path, root="."):
    """Whether a file of claims still follows from its tables.

    Parameters
    ----------
    path : path
    root : path
        Where the study's folder is named from.

    Raises
    ------
    SegdetError
        The file holds no claims, a table is another one, or a claim says something else than the tables.
    """
    written = _read(path)
    if written is None:
        raise SegdetError(f"{path}: holds no claims; write them with `segdet claims`")
    study = Study(Path(root, written["study"]))
    there = _checksums(study)
    for name in sorted(written["tables"].keys() | there.keys()):
        if written["tables"].get(name) != there.get(name):
            raise SegdetError(f"{path}: {name} is not the table that its claims were made of; run `segdet claims`")
    claims = as_facts(study)["claims"]
    told, expected = ([claim["claim"] for claim in found] for found in (written["claims"], claims))
    if told != expected:
        raise SegdetError(f"{path}: its claims are {_listed(told)}; expected {_listed(expected)}; run `segdet claims`")
    for old, new in zip(written["claims"], claims, strict=True):
        if {**old, "command": ""} != {**new, "command": ""}:
            raise SegdetError(f"{path}: claim {old['claim']} does not follow from its tables; run `segdet claims`")


def _read(path):
    """The facts in a file of claims, None where it holds something else."""
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(facts, dict) or not {"study", "tables", "claims"} <= facts.keys():
        return None
    listed = isinstance(facts["claims"], list) and isinstance(facts["tables"], dict)
    return facts if listed and all(isinstance(c, dict) and "claim" in c for c in facts["claims"]) else None


def _listed(keys):
    return ", ".join(map(str, keys)) or "none"


def _checksums(study):
    return {table.name: hashlib.sha256(table.read_bytes()).hexdigest() for table in study.tables}


def _interval(ends):
    """The ends rounded; None where there is no interval, or one without limits."""
    return [_rounded(end) for end in ends] if ends and math.isfinite(ends[0]) else None


def _rounded(value):
    return float(f"{value:.6g}")
