"""A page in Chromium with a person at it: mouse, keys, touch, and what the page asks for and complains of."""

import base64
import json
import os
import subprocess
import time

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe", "about:blank"]
KEYS = {"Enter": 13, " ": 32, "PageUp": 33, "PageDown": 34, "Delete": 46}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """Chromium's DevTools protocol over a pipe: JSON messages, each ended by a zero byte.

    Attributes
    ----------
    complaints : list of str
        Errors and warnings of the console, each after its level, and exceptions that nothing caught.
    asked : set of str
        The addresses of all requests.
    """

    def __init__(self, chromium, folder, width=1280, height=900, *flags):
        (theirs_in, self.out), (self.into, theirs_out) = os.pipe(), os.pipe()
        command = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", chromium]
        command += [f"--user-data-dir={folder}", f"--window-size={width},{height}", *flags, *FLAGS]
        self.process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in (theirs_in, theirs_out):
            os.close(end)
        self.rest, self.number, self.session, self.complaints, self.asked = b"", 0, None, [], set()
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        """Send a command and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self.number:
            self._note(answer.get("method"), answer.get("params", {}))
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self.rest:
            block = os.read(self.into, 1 << 20)
            assert block, "Chromium ended"
            self.rest += block
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, method, facts):
        if method == "Network.requestWillBeSent":
            self.asked.add(facts["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"error: {json.dumps(facts['exceptionDetails'])[:500]}")
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{facts['entry']['level']}: {facts['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.complaints.append(f"{facts['type']}: {[argument.get('value') for argument in facts['args']]}")

    def run(self, script):
        """The value of an expression of JavaScript; a promise is waited for."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=60):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not true after {seconds} s: {script}; {self.complaints}"
            time.sleep(0.1)
        return value

    def open(self, path):
        """Show a file."""
        self.tell("Page.navigate", url=path.as_uri())
        self.wait(f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete'")

    def look(self, width, theme):
        """Make the window as wide as this, that of a telephone below 500 pixels, and the theme light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def choose(self, selector, path):
        """Choose a file in an input."""
        found = self.tell("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.tell("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def place(self, selector):
        """Where an element is in the window, after it was brought there: (left, top, width, height)."""
        box = "(({left, top, width, height}) => [left, top, width, height])(e.getBoundingClientRect())"
        return self.run(
            f"(e => (e.scrollIntoView({{block: 'center', behavior: 'instant'}}), {box}))"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def key(self, name, modifiers=0):
        """Press and release a key; 8 is Shift."""
        code = KEYS.get(name, 0)  # what a browser's own controls go by
        text = {"text": {"Enter": "\r"}.get(name, name)} if name in (" ", "Enter") else {}
        facts = {"key": name, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        self.tell("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **facts)

    def drag(self, start, *places, touch=False):
        """Drag with the mouse, or a finger, from one place in the window to others."""
        if touch:
            at = lambda place: [{"x": place[0], "y": place[1]}]  # noqa: E731
            self.tell("Input.dispatchTouchEvent", type="touchStart", touchPoints=at(start))
            for place in places:
                self.tell("Input.dispatchTouchEvent", type="touchMove", touchPoints=at(place))
            self.tell("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        steps = [("mousePressed", start), *(("mouseMoved", place) for place in places), ("mouseReleased", places[-1])]
        for kind, (x, y) in steps:
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self, path):
        """A screenshot of the window."""
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot")["data"]))

    def close(self):
        """End Chromium."""
        for end in (self.out, self.into):
            os.close(end)
        self.process.terminate()
        self.process.wait(20)
