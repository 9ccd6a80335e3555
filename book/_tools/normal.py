"""What differs between two runs of the same notebook goes; what is kept is small."""

import base64
import io
import re

from PIL import Image

NOT_STORED = "not-stored"  # the tag of cells whose outputs others may not pass on, such as pictures of patients
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def normalise(notebook):
    """Drop from an executed notebook, in place, what differs between two runs of the same code; pack its pictures."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            kept = [] if NOT_STORED in cell.metadata.get("tags", ()) else cell.outputs
            cell.outputs = normalised_outputs(kept)


def normalised_outputs(outputs):
    """Outputs without live widgets and memory addresses, and with a stream in one piece."""
    kept = []
    for output in outputs:
        if WIDGET_VIEW in output.get("data", {}):
            continue
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = without_addresses(output.text)
            continue
        data = output.get("data", {})
        if "text/plain" in data:
            data["text/plain"] = without_addresses(data["text/plain"])
        if "image/png" in data:
            data["image/png"] = with_palette(data["image/png"])
    return kept


def with_palette(png):
    """A PNG (base64) with 256 colours at most, where that is smaller: speckle fills a picture with noise."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    # the method that keeps how transparent a pixel is, for figures leave their ground to the page
    packed = picture.convert("RGBA").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    packed.save(buffer, "PNG", optimize=True)
    return min(base64.b64encode(buffer.getvalue()).decode() + "\n", png, key=len)


def without_addresses(text):
    """Replace the memory address in a default `repr`."""
    return re.sub(r"\bat 0x[0-9a-fA-F]{6,}", "at 0x...", text)
