"""Commands for the study that decides (protocol 2): running it, and what it makes of the paper's claims."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SegdetError
from .app import (
    DataOption,
    LabelOption,
    MinutesOption,
    ProfileName,
    ProfileOption,
    ResumeOption,
    SchedulerOption,
    app,
    check_choice,
    check_folder,
    foretell,
    say_end,
)
from .study import arm_names

DevelopmentOption = Annotated[
    bool, typer.Option("--development", help="Seeds 0 to 4, for trying things, not those that confirm.")
]
ProtocolPresetOption = Annotated[
    str | None, typer.Option(help="Scanner of simulated hips of version 2, iu22 to confirm. Default: version 1.")
]


@app.command()
def confirm(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME: CSV tables and a manifest.")],
    profile: ProfileOption = ProfileName.laptop,
    arms: Annotated[str, typer.Option(help='"primary", "all", or names with commas between them.')] = "all",
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, or folds of --data. Default: all.")] = None,
    development: DevelopmentOption = False,
    preset: ProtocolPresetOption = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a segmenter, with --development only.")] = None,
    data: DataOption = "phantom",
    label: LabelOption = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
    scheduler: SchedulerOption = None,
):
    """Run protocol 2: the paper's claims on fresh seeds, with everything chosen beforehand."""
    from ..experiments.ablation import run_study
    from ..experiments.cases import FOLDS
    from ..experiments.cluster import trains_here
    from ..experiments.config import Plan, get_profile
    from ..experiments.memory import check_training
    from ..experiments.protocol import PRIMARY, SECONDARY, chosen_seeds, last_quarter_rise, with_steps
    from ..experiments.study import Study

    check_folder(out, data)
    check_choice(data, label, preset)
    if development and data != "phantom":
        raise SegdetError(f"--development is for simulated hips; leave it out with --data {data}")
    if steps and not development:
        raise SegdetError("--steps is for --development; to confirm, protocol 2 has chosen them")
    groups = {"primary": tuple(PRIMARY), "all": (*PRIMARY, *SECONDARY)}
    names = groups.get(arms) or arm_names(arms, protocol=2)
    size = with_steps(get_profile(profile.value), steps)
    if trains_here(scheduler):
        check_training(size)
    plan = Plan(size, names, data, label, preset, 2)
    chosen = range(seeds or FOLDS) if data != "phantom" else chosen_seeds(size.name, seeds, development)
    complete = run_study(
        plan, chosen, out, resume=resume, max_minutes=max_minutes, scheduler=scheduler,
        foretell=partial(foretell, size),
    )  # fmt: skip
    if development:
        for arm, rise in last_quarter_rise(Study(out)).items():
            print(f"{arm:<16} validation IoU over the last quarter of the steps {rise:+.4f}")
    say_end(complete, out)


@app.command()
def dials(
    out: Annotated[Path, typer.Option(help="The study's folder, results/NAME: CSV tables and a manifest.")],
    profile: ProfileOption = ProfileName.laptop,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 5,
    development: DevelopmentOption = False,
    preset: ProtocolPresetOption = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
):
    """Train anew at every contrast, noise and number of look-alikes: does attention help more on harder scans?"""
    from ..experiments.config import get_profile
    from ..experiments.dials import run_dials
    from ..experiments.memory import check_training
    from ..experiments.protocol import chosen_seeds, with_steps

    check_folder(out)
    check_choice("phantom", None, preset)
    size = with_steps(get_profile(profile.value))
    check_training(size)
    complete = run_dials(
        size, chosen_seeds(size.name, seeds, development), out, preset, resume=resume, max_minutes=max_minutes,
        foretell=partial(foretell, size),
    )  # fmt: skip
    say_end(complete, out)


@app.command()
def claims(
    study: Annotated[Path, typer.Argument(help="The folder of a study that `segdet confirm` has filled.")],
    out: Annotated[Path | None, typer.Option(help="Also write them to a JSON file, with checksums.")] = None,
):
    """Say what a study of protocol 2 makes of each of the paper's claims."""
    from ..analysis.claims import as_facts, in_numbers, write_claims
    from ..experiments.study import Study
    from ..io.outputs import check_outputs

    check_outputs({"measurements": out}, force=True)
    facts = write_claims(Study(study), out) if out else as_facts(Study(study))
    for claim in facts["claims"]:
        print(f"{claim['claim']:<3} {claim['text']:<52} {claim['verdict']}")
        if "ours" in claim:
            print(f"    {in_numbers(claim)}")
    print(f"{facts['kind']} seeds, commit {facts['commit']}")
