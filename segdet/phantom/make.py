"""Which simulated hip: version 1, which the first study used, or version 2, which looks like one (chapter 02)."""

from dataclasses import replace

from ..errors import SegdetError
from . import acoustics
from .hip2.chain import make_hip2
from .hip2.parameters import DYSPLASTIC_CUP, VARIED, Hip2Parameters
from .parameters import DYSPLASTIC, HipParameters


def parameters_of(version=1, preset=None, dysplastic=False):
    """What a version assumes about the infant by default, or of one whose hip is not covered as it should be."""
    if version == 1:
        return DYSPLASTIC if dysplastic else HipParameters()
    found = VARIED if preset == "varied" else Hip2Parameters()
    return replace(found, **DYSPLASTIC_CUP) if dysplastic else found


def make_phantom(seed, shape=(128, 184, 96), contrast_db=None, *, version=1, preset=None, noise_db=None, **options):
    """A simulated scan of an infant hip with its femoral head annotated; same arguments, same bytes.

    Parameters
    ----------
    seed : int
    shape : (D, H, W)
    contrast_db : float or None
        How far the head scatters below muscle, dB; None is 6 in version 1 and drawn in version 2.
    version : 1 or 2
        Version 2 also carries a label map: ilium and roof, head, ischium.
    preset : str or None
        Version 2 only: a name in `segdet.phantom.hip2.scanners.SCANNERS`, or "varied" for one that the seed draws,
        with infants who vary more. None is "iu22", the paper's.
    noise_db : float or None
        Electronic noise before gain, dB relative to muscle; None is the parameters' or, in version 2, the scanner's.
    **options
        ``side``, ``age_days``, ``parameters`` and ``device`` of `segdet.phantom.acoustics.make_phantom`; the
        parameters of version 2 are `Hip2Parameters`.

    Returns
    -------
    Volume
        uint8 voxels (elevation, depth, lateral), mask, a name such as "phantom-0007" and meta: modality,
        phantom_version, seed, side, age_days, contrast_db and, where parameters are not the default's, changed; of
        version 2 also preset.

    Raises
    ------
    SegdetError
        An argument is outside what that version models.
    """
    if version not in (1, 2):
        raise SegdetError(f"phantom: version must be 1 or 2, found {version!r}")
    if options.get("parameters") is None:
        options["parameters"] = parameters_of(version, preset)
    if not isinstance(options["parameters"], Hip2Parameters if version == 2 else HipParameters):
        found = type(options["parameters"]).__name__
        raise SegdetError(f"phantom: {found} are not the parameters of version {version}; see parameters_of({version})")
    if version == 2:
        return make_hip2(seed, shape, contrast_db, preset=preset or "iu22", noise_db=noise_db, **options)
    if preset is not None:
        raise SegdetError(f"phantom: version 1 has one scanner; leave out preset={preset!r}, or ask for version=2")
    if noise_db is not None:
        options["parameters"] = replace(options["parameters"], noise_db=noise_db)
    return acoustics.make_phantom(seed, shape, 6.0 if contrast_db is None else contrast_db, **options)
