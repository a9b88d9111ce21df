"""Headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
KEYS = {"ArrowDown": 40, "ArrowUp": 38, "Enter": 13, "Escape": 27, "Tab": 9, "Backspace": 8}
QUIET = (
    "--headless=new --no-first-run --disable-gpu --disable-dev-shm-usage --disable-extensions"
    " --disable-background-networking --disable-component-update --disable-sync --mute-audio"
    " --hide-scrollbars --force-color-profile=srgb --remote-debugging-port=0"
)


def executable() -> str | None:
    """The browser's program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


needed = pytest.mark.skipif(
    executable() is None, reason="no Chromium on the PATH; `apt-get install chromium` brings it"
)


class Browser:
    """One tab. `problems` collects uncaught errors and refusals of the Content-Security-Policy, `requests`
    the addresses that the page asked."""

    def __init__(self, socket: Any):
        self._socket = socket
        self._next = 0
        self.problems: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command; its result."""
        self._next += 1
        self._socket.send(json.dumps({"id": self._next, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=20))
            if message.get("id") == self._next:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        kind, parameters = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif kind == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
            if entry["source"] == "network":
                return  # a status of 400 or more, which the page itself shows
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")
        elif kind == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 10) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}; problems: {self.problems}"
            time.sleep(0.03)

    def open(self, url: str, ready: str) -> None:
        """Loads an address, and waits until an expression is true."""
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url.partition('#')[0]!r}) && {ready}", seconds=40)

    def size(self, width: int, height: int, scheme: str = "light", mobile: bool = False) -> None:
        """The window's size in CSS pixels, and the system's colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        x, y = self.run(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Text into the element that has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, times: int = 1) -> None:
        """A key, down and up."""
        words = {"text": "\r"} if key == "Enter" else {}
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
                self.send("Input.dispatchKeyEvent", type=kind, **code, **(words if kind == "keyDown" else {}))

    def screenshot(self, path: str | os.PathLike[str], whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        content = base64.b64decode(answer["data"])
        pathlib.Path(path).write_bytes(content)
        return content


@contextlib.contextmanager
def browser(profile: pathlib.Path) -> Iterator[Browser]:
    """Starts the browser with a profile of its own; it ends with the block."""
    command = [executable() or "", *QUIET.split(), f"--user-data-dir={profile}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium's sandbox does not start as root
    process = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with connect(_address(process, profile), max_size=2**26, open_timeout=20) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, profile: pathlib.Path, seconds: float = 30) -> str:
    """The WebSocket of the browser's tab."""
    end, file = time.monotonic() + seconds, profile / "DevToolsActivePort"
    while time.monotonic() < end:
        assert process.poll() is None, f"the browser ended with code {process.returncode}"
        with contextlib.suppress(OSError, IndexError):
            port = int(file.read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                tabs = [one for one in json.load(answer) if one["type"] == "page"]
            return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.05)
    raise AssertionError("the browser opened no DevTools port")
