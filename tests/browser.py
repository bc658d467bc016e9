"""A headless chromium for tests: pages opened, keys pressed, complaints heard."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None,
    reason="no chromium, chromium-browser or google-chrome on PATH: the page was not tried in a browser",
)


class Browser:
    """A headless chromium, driven over --remote-debugging-pipe: no port and no dependency."""

    def __init__(self, profile):
        to_read, self.write_end = os.pipe()
        self.read_end, to_write = os.pipe()
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # the browser wants its pipes as descriptors 3 and 4
        to_read, to_write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write))
        launch = f"import os, sys; os.dup2({to_read}, 3); os.dup2({to_write}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", launch, *command], pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.answers, self.events, self.last = Queue(), [], 0
        threading.Thread(target=self._listen, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session = None

    def _listen(self):
        rest = b""
        while chunk := os.read(self.read_end, 1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                self.answers.put(message) if "id" in message else self.events.append(message)

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            try:
                answer = self.answers.get(timeout=30)
            except Empty:
                raise RuntimeError(f"the browser does not answer {method}") from None
            if answer["id"] == self.last:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path, width, height, dark=False, phone=False):
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url="about:blank")
        self.call(
            "Page.navigate", url=Path(path.split("#")[0]).as_uri() + "".join("#" + h for h in path.split("#")[1:])
        )
        assert self.run(READY)

    def run(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def complaints(self):
        """Console errors, exceptions, and requests that leave the file."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert")
            ):
                found.append(params)
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"])
            if method == "Network.requestWillBeSent" and params["request"]["url"].startswith("http"):
                found.append(params["request"]["url"])
        return found

    def close(self):
        self.call("Browser.close")
        self.process.wait(10)


#: the page has been built and painted
READY = """
new Promise((done) => {
  const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => done(true)));
  const look = () => document.readyState === "complete" && document.documentElement.dataset.step
    ? painted() : setTimeout(look, 20);
  look();
})
"""
