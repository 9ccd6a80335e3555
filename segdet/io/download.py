"""Real public data: scans of another organ (chapter 10) and pictures of infant hips, for `segdet download`."""

import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import SegdetError
from ..runtime.atomic import MARK, locked, writing_folder
from ..runtime.progress import progress


@dataclass(frozen=True)
class Dataset:
    """Files on the web: one archive of annotated scans, or files that are ready as they are.

    Attributes
    ----------
    files : dict
        ALGORITHM:DIGEST of each URL.
    folders : dict
        Which folder of the archive becomes images/ and which labels/; empty where there is no archive.
    holds : str
        What one of its items is.
    licence, source : str
    next : str
        A command that makes use of the folder {out}.
    """

    files: dict
    folders: dict
    holds: str
    licence: str
    source: str
    next: str


HIPS = {  # SHA-256 of pictures and label maps, by the number of the Radiopaedia case
    72628: (
        "5571c6aebac0e74a3311e7cd399a70d14353b591cb7acf2fe36558ec6cab0480",
        "1c8d8af2bbf80d87330f4a97c966fc672836eb554ae5624f5cbc3fc2eb7eb244",
    ),
    167854: (
        "5eb8588d37e8bf19e6e42ea7bf53110f1a9d3decbb154bc9ff45ea2b32830745",
        "c8504b8863e2e1898273ff8fab6d1351f4c91cd242e1a983acd4f42f4eef279b",
    ),
    167857: (
        "3824e4559d5934b271a5f6375ab84304fed67f6d16c926bf66e2ddbe99dd9cba",
        "e7a3315b28224a3a1376d5daff6ed5ee9e6dd0a7f48494f1c674194d44d8a3d1",
    ),
    171551: (
        "3c87fd9e2da9f4b19d091b67a1885eadef3af98277b612ac87c5d80c8c3634b1",
        "b54a1449eeb6c6ed121f55d193fc2b758283ed7ac1d1f3728337e38b35071fa6",
    ),
    171554: (
        "d87fd5e306e5c20d2081c5d82be07e6950167929f8f5730f77a26bb034e15ce3",
        "65e5c91bc90eb517945b7280d8b9dd3cdfaa117be2fbd160070072e7fd1f9531",
    ),
    171556: (
        "00ee939ba58c2420eb093e607291fe02543da26f42ecd38249fe1dbe37390dd5",
        "5ce0c651b8b10fbf1e94b912c226df1a8d42ff5248297b4a74dc1446ed2c7f79",
    ),
    172536: (
        "9d04fac51962357634fbb28094c6e2c48cdcb3ed9f0f27acef2d00e567ae4f0e",
        "f81c196b6587b72871cf2a9d1e5625ee94500ffc3a62e5581fe9e23e822b88f3",
    ),
    172658: (
        "3f273eb958d0459e424e52d59e98ae982314d45fe3abd721a3254993b66d491b",
        "1ef692376244a8791d060ed9db2c60a8afb46778ac3e9c8a95d22f9fb68997bc",
    ),
}
MONAI = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
RADOSS = "https://raw.githubusercontent.com/radoss-org/radoss-creative-commons/HEAD"
DATASETS = {
    "hippocampus": Dataset(
        {f"{MONAI}/Task04_Hippocampus.tar": "md5:9d24dba78a72977dbd1d2e110310f31b"},
        {"imagesTr": "images", "labelsTr": "labels"},
        "annotated scans",
        "CC BY-SA 4.0",
        "Medical Segmentation Decathlon, Task 04: Antonelli et al., Nat Commun 13:4128, 2022",
        "segdet ablate --data {out} --label 1 --seeds 3 --out results/hippocampus",
    ),
    "hips": Dataset(
        {
            f"{RADOSS}/{kind}/ultrasound/{case}{suffix}": f"sha256:{digest}"
            for case, digests in HIPS.items()
            for kind, suffix, digest in zip(("dicoms", "labels"), (".dcm", ".nii.gz"), digests, strict=True)
        },
        {},
        "infants, still pictures of their hips with label maps: 1 ilium, 2 femoral head, 3 ischium",
        "CC BY-NC-SA 3.0",
        "Cases courtesy of Ashesh Ishwarlal Ranchod (rID 167854, 167857), Ryan Thibodeau (rID 171551, 171554, 171556, "
        "172536, 172658) and Yusra Sheikh (rID 72628) from https://radiopaedia.org; collected and labelled, by a "
        "network and not by a person, in https://github.com/radoss-org/radoss-creative-commons",
        "segdet info {out}/171551.dcm",
    ),
}


def download(name, folder):
    """Fetch a data set, check it, and lay it out: scans as `segdet fit --data` takes them, pictures beside labels.

    An interrupted download goes on where it stopped. The folder appears when it is complete. A file that was fetched
    by hand and put beside the folder is used after the same check, and stays.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    folder : path

    Returns
    -------
    int
        The number of annotated scans, or of files with pictures.

    Raises
    ------
    SegdetError
        Unknown name, no connection, a wrong checksum, an archive of another layout, a folder that is there already,
        another process that downloads to the same place.
    """
    if name not in DATASETS:
        raise SegdetError(f"there is no data set {name!r}; choose from {', '.join(DATASETS)}")
    dataset, folder = DATASETS[name], Path(folder)
    if folder.exists():
        raise SegdetError(f"{folder}: is there already; delete it or name another folder")
    with locked(folder.parent):
        found = [_found(url, checksum, folder.parent) for url, checksum in dataset.files.items()]
        if dataset.folders:
            _unpack(found[0], dataset, folder)
        else:
            with writing_folder(folder) as working:
                for file in found:
                    shutil.copyfile(file, working / file.name.removeprefix(MARK))
        for file in found:
            if file.name.startswith(MARK):
                file.unlink()
    return len(list((folder / "images").iterdir())) if dataset.folders else len(list(folder.glob("*.dcm")))


def _found(url, checksum, folder):
    """The file of a URL: the one that lies in `folder`, if it is right, else downloaded to a name of segdet's own."""
    from pooch.hashes import hash_matches

    by_hand = folder / url.rsplit("/", 1)[-1]
    if not by_hand.exists():
        return _fetch(url, checksum, by_hand)
    if not hash_matches(by_hand, checksum):
        raise SegdetError(f"{by_hand}: its checksum is not {checksum}; delete it and try again")
    return by_hand


def _fetch(url, checksum, by_hand):
    """Download a file to a name beside `by_hand` that is segdet's own, and return it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    name = f"{MARK}{by_hand.name}"
    try:
        return Path(pooch.retrieve(url, checksum, name, by_hand.parent, downloader=_resume))
    except ValueError as error:  # pooch's word for a wrong checksum
        raise SegdetError(f"{by_hand.name}: its checksum is not {checksum}; try again later") from error
    except OSError as error:  # requests' errors are OSErrors too
        raise SegdetError(
            f"{url}: cannot be downloaded ({_reason(error)}); run this again to go on, "
            f"or put the file at {by_hand} by hand"
        ) from error


def _resume(url, output_file, _pooch):
    """A downloader for pooch that keeps what it has in a file of its own beside the output."""
    import requests

    name = url.rsplit("/", 1)[-1]
    partial = Path(output_file).with_name(f"{MARK}{name}.part")
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # else a range would count the bytes of what the server compressed
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        if answer.status_code != 416:  # 416: nothing is left to ask for
            answer.raise_for_status()
            if answer.status_code != 206:  # the server cannot go on in the middle
                have = 0
            whole = have + int(answer.headers.get("Content-Length", 0))
            bar = progress(None, name, whole or None, unit="B", unit_scale=True, initial=have)
            with bar, open(partial, "ab" if have else "wb") as file:
                for chunk in answer.iter_content(1 << 14):
                    file.write(chunk)
                    bar.update(len(chunk))
    os.replace(partial, output_file)


def _unpack(archive, dataset, folder):
    """Extract images and labels, whole or not at all."""
    try:
        with writing_folder(folder) as working, tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name)
                kind = dataset.folders.get(path.parent.name)
                if member.isfile() and kind and not path.name.startswith("."):
                    (working / kind).mkdir(exist_ok=True)
                    with open(working / kind / path.name, "wb") as file:
                        shutil.copyfileobj(tar.extractfile(member), file)
            kinds = [{p.name for p in (working / kind).glob("*")} for kind in ("images", "labels")]
            if not kinds[0] or kinds[0] != kinds[1]:
                raise SegdetError(f"{archive}: holds {len(kinds[0])} images and {len(kinds[1])} labels, not pairs")
    except (tarfile.TarError, EOFError) as error:
        raise SegdetError(f"{archive}: is no tar archive ({error}); delete it and try again") from error


def _reason(error):
    """The innermost of requests' nested exceptions, on one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return str(error).splitlines()[0] if str(error) else type(error).__name__
