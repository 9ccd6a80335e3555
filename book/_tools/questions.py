"""Questions with choices on a page, answered there: radio buttons and CSS, so by mouse, key and finger, without a script.

The answer to a question about a claim of the paper is that of a study in results/, never a typed one.
"""

import html
import json
import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from segdet.analysis.claims import in_numbers

CLAIMS = "results/protocol2-laptop/claims.json"
VERDICTS = {
    "reproduced": "it holds: the whole interval lies on the paper's side of zero",
    "reversed": "the opposite holds: the whole interval lies on the other side",
    "inconclusive": "nothing can be told: the interval holds zero",
    "equivalent": "there is no difference that matters: the whole interval lies between -0.02 and 0.02",
}
CHOICE = re.compile(r"- \[( |x)\] (.+?) \| (.+)")


class Question(SphinxDirective):
    """``segdet-question``: its argument asks, and each line of its content is a choice, the right one marked with x.

    A line is ``- [x] choice | why``. With ``:claim:``, a key of `segdet.analysis.claims.CLAIMS` and the verdict that the
    content was written for, the choices are the verdicts, the right one and its numbers are those of the study that
    decides, and the content says why.
    """

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"claim": directives.unchanged_required}  # noqa: RUF012

    def run(self):
        """The question as HTML."""
        choices = self._verdicts() if "claim" in self.options else choices_of(" ".join(self.content))
        if any(choice is None for choice in choices):
            raise self.error(f"a choice is `- [x] choice | why`: {self.arguments[0]}")
        if [right for right, *_ in choices].count(True) != 1:
            raise self.error(f"a question has one right choice, marked with [x]: {self.arguments[0]}")
        name = f"question-{self.env.new_serialno('segdet-question')}"
        return [nodes.raw("", question_html(name, self.arguments[0], choices), format="html")]

    def _verdicts(self):
        """The verdicts on a claim, the right one with its numbers."""
        path = Path(self.env.srcdir) / CLAIMS
        self.env.note_dependency(str(path))
        claims = {claim["claim"]: claim for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]}
        key, _, expected = self.options["claim"].partition(" ")
        claim = claims.get(key, {"verdict": "none"})
        if claim["verdict"] != expected or expected not in VERDICTS:
            raise self.error(f"{CLAIMS}: the verdict on claim {key} is {claim['verdict']}, the text says {expected}")
        return verdicts_on(claim, " ".join(self.content))


def choices_of(text):
    """The choices of a text: a list of (right, choice, why), None for what is no choice."""
    parts = (CHOICE.fullmatch(part.strip()) for part in re.split(r"(?=- \[)", text) if part.strip())
    return [found and (found[1] == "x", found[2], found[3]) for found in parts]


def verdicts_on(claim, why):
    """The verdicts as choices, of which a claim of claims.json decides the right one: a list of (right, choice, why)."""
    found = f"{in_numbers(claim)}."
    return [(name == claim["verdict"], text, f"{found} {why}".strip()) for name, text in VERDICTS.items()]


def question_html(name, question, choices):
    """A group of radio buttons, each with what is to be said of it; book/_static/segdet.css shows that of the chosen one."""
    lines = [f'<fieldset class="segdet-question"><legend>{marked(question)}</legend>']
    for i, (right, choice, why) in enumerate(choices):
        verdict = "Right." if right else "No."
        lines.append(
            f'<div><label><input type="radio" name="{name}" value="{i}"> {marked(choice)}</label>'
            f'<div aria-live="polite"><p>{verdict} {marked(why)}</p></div></div>'
        )
    return "".join(lines) + "</fieldset>"


def marked(text):
    """A text as HTML, `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
