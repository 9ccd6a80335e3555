"""The slope and the intercept that DICOM gives for every slice or frame (PS3.3, C.11.1; chapter 02)."""

from math import isfinite

from ...errors import FormatError

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


def scales_of(items, path):
    """(slope, intercept) that data sets or functional groups give for their stored values; (1, 0) where none.

    Elements that are there but empty count as absent, and a Modality LUT takes the place of both. The slope of an RT
    Dose is its DoseGridScaling (PS3.3, C.8.8.3).

    Raises
    ------
    FormatError
        If a slope is 0 or no number, or some items lack the scale that others have, or an RT Dose its own.
    """
    dose = items[0].get("SOPClassUID") == RT_DOSE
    keyword = "DoseGridScaling" if dose else "RescaleSlope"
    slopes, scales = [item.get(keyword) for item in items], []
    if dose and None in slopes:
        raise FormatError(f"{path}: is an RT Dose without DoseGridScaling, so its doses are unknown; export it again")
    for item, slope in zip(items, slopes, strict=True):
        physical = (1.0 if slope is None else float(slope), float(item.get("RescaleIntercept") or 0))
        scales.append((1.0, 0.0) if item.get("ModalityLUTSequence") else physical)
        if not (scales[-1][0] and isfinite(scales[-1][0])):
            raise FormatError(f"{path}: its {keyword} is {slope}; expected a scale: put it right or take it out")
    _check_all_scaled(items, slopes, scales, path)
    return scales


def _check_all_scaled(items, slopes, scales, path):
    """Refuse items that lack what others have: their values would be of another scale than those beside them."""
    tables = [bool(item.get("ModalityLUTSequence")) for item in items]
    intercepts = [item.get("RescaleIntercept") for item in items]
    lacking = {  # a table takes the place of both
        keyword: sum(value is None and not table for value, table in zip(values, tables, strict=True))
        for keyword, values in (("RescaleSlope", slopes), ("RescaleIntercept", intercepts))
    }
    for keyword, of_others in (
        ("RescaleSlope", any(tables) or len({*scales}) > 1),
        ("RescaleIntercept", lacking["RescaleIntercept"] < len(items) and len({offset for _, offset in scales}) > 1),
    ):
        if lacking[keyword] and of_others:
            others = "ModalityLUTSequence" if any(tables) else "it"
            raise FormatError(
                f"{path}: {keyword} is missing in {lacking[keyword]} of {len(items)} slices or frames; put it in, or "
                f"take {others} out of the others"
            )
