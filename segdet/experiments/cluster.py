"""The seeds of a study on the workers of a dask cluster (chapter 10)."""

import json
import secrets
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import SegdetError
from ..training.checkpoint import forget_arms

POLL = 1.0  # seconds between two looks at what has come home
ONE_AT_A_TIME = threading.Lock()  # PyTorch's random state and its threads belong to the whole process


def trains_here(scheduler):
    """Whether the trainings run on this machine: without a scheduler's address, or with "local"."""
    return scheduler in (None, "local")


def on_cluster(plans, scheduler, checkpoints, report, run, needed=()):
    """Train the seeds of a study on dask workers; yields (table, rows) as soon as an arm is done anywhere.

    A worker that is lost costs the arm it was on: another one goes on with those that have not come home, from its
    checkpoints where both see the study's folder. A seed that fails leaves the others alone.

    Parameters
    ----------
    plans : dict
        From a seed to the `Plan` of what is left of it.
    scheduler : str
        Its address; "local" starts one here, with a worker for every GPU, else a single one.
    checkpoints : path
        Folder for the states of the trainings.
    report : callable
        Takes a line.
    run : callable
        ``run(plan, seed, checkpoints)`` yields (table, rows) of a seed.
    needed : collection of int
        The seeds whose detectors a later stage asks for; of these the states of the arms alone are deleted.

    Raises
    ------
    SegdetError
        No scheduler answers, or a seed failed; the others are complete by then.
    """
    from dask.distributed import Client

    plans = {seed: _anywhere(plan) for seed, plan in plans.items()}
    study, failed = f"segdet-{secrets.token_hex(4)}", {}
    try:
        if scheduler == "local":
            client = Client(n_workers=max(1, torch.cuda.device_count()), threads_per_worker=1, dashboard_address=None)
        else:
            client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise SegdetError(f"{scheduler}: no dask scheduler answers there ({error})") from error
    with client:
        folder = str(Path(checkpoints).resolve())
        futures = {
            seed: client.submit(_on_worker, plan, seed, study, folder, run, seed in needed, pure=False)
            for seed, plan in plans.items()
        }
        seen = dict.fromkeys(plans, 0)
        while futures:
            ended = {seed: future for seed, future in futures.items() if future.done()}  # before the last look
            home = client.get_metadata([study], {})
            for seed in futures:
                rows = _in_order(home.get(str(seed), {}))
                yield from rows[seen[seed] :]
                seen[seed] = len(rows)
            for seed, future in ended.items():
                del futures[seed]
                if future.status == "error":
                    failed[seed] = future.exception()
                    report(f"seed {seed} failed: {failed[seed]}")
            time.sleep(POLL if futures else 0)
    if failed:
        seeds = ", ".join(map(str, failed))
        raise SegdetError(f"failed: seed {seeds}; the rows of the others are kept, go on with --resume")


def _anywhere(plan):
    """A plan whose data are found from any working folder."""
    return plan if plan.data == "phantom" else replace(plan, data=str(Path(plan.data).resolve()))


def _in_order(home):
    """What a seed has sent home, a list of [table, rows]."""
    return [json.loads(home[key]) for key in sorted(home, key=int)]


def _on_worker(plan, seed, study, checkpoints, run, needed):
    """Train one seed here; its rows go to the scheduler's memory, which outlives this worker."""
    from dask.distributed import get_client, get_worker

    client, worker = get_client(), get_worker()
    checkpoints = Path(checkpoints) if Path(checkpoints).parent.is_dir() else None
    with ONE_AT_A_TIME:
        if torch.cuda.is_available():
            beside = sorted(a for a, w in client.scheduler_info()["workers"].items() if w["host"] == _host(worker))
            torch.cuda.set_device(beside.index(worker.address) % torch.cuda.device_count())
        sent = _in_order(client.get_metadata([study, str(seed)], {}))  # by a worker that was lost
        done = {rows[0]["arm"] for table, rows in sent if table == "cases"}
        left = replace(plan, arms=tuple(arm for arm in plan.arms if arm not in done))
        number = len(sent)
        for found in run(left, seed, checkpoints):
            client.set_metadata([study, str(seed), str(number)], json.dumps(found))
            number += 1
        if checkpoints:
            forget_arms(checkpoints, seed, plan.arms, needed)


def _host(worker):
    return worker.address.split("://")[-1].rsplit(":", 1)[0]
