"""What the prose of a chapter says of numbers, held against those numbers (all chapters)."""

import os

from ..errors import SegdetError

HOLDS = "as the text says:"  # before a claim that holds; the pages fold these lines away
STORED_PROFILE = "quick"  # of the outputs that are committed, and of the prose beside them


def written_for(claims, profile=None):
    """Say which claims of the prose beside a cell hold, and refuse those that do not.

    Parameters
    ----------
    claims : dict of bool
        What the prose says, in words, and whether the numbers say it too.
    profile : Profile, optional
        That the numbers come from. At another than the stored one a claim may fail, and so it may in a reader's book
        (SEGDET_READER), for trainings differ between processors: the page of that run is told so. Without a profile
        the numbers come from `results/`, and every claim has to hold.

    Raises
    ------
    SegdetError
        Naming the claims that do not hold.
    """
    wrong = [claim for claim, holds in claims.items() if not holds]
    stored = profile is not None and profile.name == STORED_PROFILE
    if wrong and (profile is None or (stored and not os.environ.get("SEGDET_READER"))):
        raise SegdetError(f"the prose claims what the numbers do not show: {'; '.join(wrong)}; change the prose")
    for claim in claims:
        fails = "not so in this run:" if stored else f"not so at the profile {getattr(profile, 'name', '')}:"
        print(fails if claim in wrong else HOLDS, claim)
