"""An RO-Crate 1.1 of results/: which file is what, from which code, with its checksum (w3id.org/ro/crate/1.1).

``python book/_tools/crate.py`` writes results/ro-crate-metadata.json anew; a test fails where it no longer fits.
"""

import datetime
import hashlib
import json

from runner import ROOT
from staleness import CRATE, tables

from segdet.experiments.study import Study
from segdet.runtime.atomic import write_text

SOURCE = "#segdet"
FORMATS = {".csv": "text/csv", ".json": "application/json"}
FACTS = ("protocol", "kind", "profile", "data", "phantom_version", "device", "torch", "commit")


def crate(folder, published):
    """The crate of a folder of studies as JSON-able facts.

    Parameters
    ----------
    folder : Path
    published : str
        A date, YYYY-MM-DD.
    """
    files = sorted(tables(folder))
    studies = sorted({path.parent for path in files if path.parent != folder})
    loose = [{"@id": path.name} for path in files if path.parent == folder]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Results of segdet",
        "description": "Tables and manifests of all studies of the book Segmentation-by-Detection, reproduced.",
        "datePublished": published,
        "license": {"@id": "https://spdx.org/licenses/BSD-3-Clause"},
        "hasPart": [{"@id": f"{study.name}/"} for study in studies] + loose,
    }
    about = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    source = {"@id": SOURCE, "@type": "SoftwareSourceCode", "name": "segdet", "programmingLanguage": "Python"}
    graph = [about, root, source]
    for study in studies:
        graph += _study(study, [path for path in files if path.parent == study])
    graph += [_file(path, folder) for path in files]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def _study(study, files):
    """A study and the run that made it."""
    manifest = Study(study).manifest
    facts = "; ".join(f"{key} {manifest[key]}" for key in FACTS if manifest.get(key) is not None)
    name = f"{study.name}/"
    parts = [{"@id": f"{study.name}/{path.name}"} for path in files]
    made = {"@id": f"#run-{study.name}", "@type": "CreateAction", "name": f"the run of {study.name}"}
    return [
        {"@id": name, "@type": "Dataset", "name": study.name, "description": facts, "hasPart": parts},
        made | {"instrument": {"@id": SOURCE}, "result": {"@id": name}, "description": facts},
    ]


def _file(path, folder):
    """A file with its size and its checksum."""
    content = path.read_bytes()
    return {
        "@id": path.relative_to(folder).as_posix(),
        "@type": "File",
        "name": path.name,
        "encodingFormat": FORMATS[path.suffix],
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


if __name__ == "__main__":
    results = ROOT / "results"
    found = crate(results, datetime.date.today().isoformat())
    write_text(results / CRATE, json.dumps(found, indent=1) + "\n")
    print(f"{results / CRATE}: {len(found['@graph'])} entries")
