"""Real public data for the study of another organ: `segdet download` (chapter 10)."""

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
    """One archive on the web.

    Attributes
    ----------
    url : str
    checksum : str
        ALGORITHM:DIGEST of the archive.
    folders : dict
        Which folder of the archive becomes images/ and which labels/.
    licence, source : str
    """

    url: str
    checksum: str
    folders: dict
    licence: str
    source: str


DATASETS = {
    "hippocampus": Dataset(
        "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
        "md5:9d24dba78a72977dbd1d2e110310f31b",
        {"imagesTr": "images", "labelsTr": "labels"},
        "CC BY-SA 4.0",
        "Medical Segmentation Decathlon, Task 04: Antonelli et al., Nat Commun 13:4128, 2022",
    )
}


def download(name, folder):
    """Fetch a data set, check it, and lay it out as `segdet fit --data` takes it: images/NAME and labels/NAME.

    An interrupted download goes on where it stopped. The folder appears when it is complete. An archive that was
    fetched by hand and put beside the folder is used after the same check, and stays.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    folder : path

    Returns
    -------
    int
        The number of annotated scans.

    Raises
    ------
    SegdetError
        Unknown name, no connection, a wrong checksum, an archive of another layout, a folder that is there already,
        another process that downloads to the same place.
    """
    from pooch.hashes import hash_matches

    if name not in DATASETS:
        raise SegdetError(f"there is no data set {name!r}; choose from {', '.join(DATASETS)}")
    dataset, folder = DATASETS[name], Path(folder)
    if folder.exists():
        raise SegdetError(f"{folder}: is there already; delete it or name another folder")
    by_hand = folder.parent / dataset.url.rsplit("/", 1)[-1]
    with locked(folder.parent):
        if by_hand.exists():
            if not hash_matches(by_hand, dataset.checksum):
                raise SegdetError(f"{by_hand}: its checksum is not {dataset.checksum}; delete it and try again")
            _unpack(by_hand, dataset, folder)
        else:
            archive = _fetch(dataset, by_hand)
            _unpack(archive, dataset, folder)
            archive.unlink()
    return len(list((folder / "images").iterdir()))


def _fetch(dataset, by_hand):
    """Download the archive to a name beside `by_hand` that is segdet's own, and return it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    name = f"{MARK}{by_hand.name}"
    try:
        return Path(pooch.retrieve(dataset.url, dataset.checksum, name, by_hand.parent, downloader=_resume))
    except ValueError as error:  # pooch's word for a wrong checksum
        raise SegdetError(f"{by_hand.name}: its checksum is not {dataset.checksum}; try again later") from error
    except OSError as error:  # requests' errors are OSErrors too
        raise SegdetError(
            f"{dataset.url}: cannot be downloaded ({_reason(error)}); run this again to go on, "
            f"or put the file at {by_hand} by hand"
        ) from error


def _resume(url, output_file, _pooch):
    """A downloader for pooch that keeps what it has in a file of its own beside the output."""
    import requests

    name = url.rsplit("/", 1)[-1]
    partial = Path(output_file).with_name(f"{MARK}{name}.part")
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
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
