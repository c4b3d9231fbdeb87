"""Debian's Chromium, headless, driven over a pipe by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/. Needs no package."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_S = 30.0
_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " "), "ArrowDown": (40, "")}
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Chromium reads commands from descriptor 3 and answers on 4. The new process first takes the low numbers, so that none of the two is overwritten.
_ON_THREE_AND_FOUR = """
import os, sys
low = [os.dup(0) for _ in range(5)]
commands, answers = (os.dup(int(number)) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Pipe:
    """Commands and answers, one at a time; what the browser tells by itself is kept in `events`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._received = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of one command; fails where the browser refuses it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._answers], [], [], WAIT_S)
            part = os.read(self._answers, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._received += part
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


class Page:
    """One tab."""

    def __init__(self, pipe: Pipe, downloads: Path, *, width_px: int, height_px: int) -> None:
        self._pipe = pipe
        self._dialogs = 0
        context = pipe.ask("Target.createBrowserContext")["browserContextId"]
        target = pipe.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session: str = pipe.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        pipe.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), browserContextId=context)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.ask(f"{domain}.enable")
        self.ask("Page.setInterceptFileChooserDialog", enabled=True)
        self.ask("Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=width_px < 600)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._pipe.ask(method, self.session, **parameters)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of what the tab told by itself so far."""
        self.value("0")  # whatever was told before this answer has been read
        return [event["params"] for event in self._pipe.events if event.get("sessionId") == self.session and event["method"] in methods]

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to, as plain data."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression holds."""
        end = time.monotonic() + WAIT_S
        while not self.value(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((part) => part.textContent)")
        return found

    def press(self, key: str) -> None:
        code, text = _KEYS[key]
        named = {"key": text if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **named, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def tab_to(self, selector: str) -> None:
        """Tab until an element has the focus."""
        for _ in range(40):
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"Tab never comes to {selector}")

    def choose(self, files: Sequence[Path]) -> None:
        """Answer the next file dialog, once it is open."""
        end = time.monotonic() + WAIT_S
        while len(dialogs := self.events("Page.fileChooserOpened")) <= self._dialogs:
            assert time.monotonic() < end, "no file dialog opens"
            time.sleep(0.02)
        self._dialogs += 1
        self.ask("DOM.setFileInputFiles", files=[str(path) for path in files], backendNodeId=dialogs[self._dialogs - 1]["backendNodeId"])

    def drop(self, files: Sequence[Path], selector: str) -> None:
        """Drag files over an element and let them go."""
        box = self.value(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); return [box.x, box.y]; }})()"
        )
        data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=box[0] + 20, y=box[1] + 20, data=data)

    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions, dialogs, what was written to the console, and the browser's own errors and warnings."""
        told = [event["entry"] for event in self.events("Log.entryAdded")]
        own = [entry for entry in told if entry["level"] in ("error", "warning")]
        return own + self.events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Pipe]:
    """A browser with an empty profile in `folder`; ended, at worst killed, on leaving."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    theirs = theirs_in, theirs_out
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [sys.executable, "-c", _ON_THREE_AND_FOUR, *map(str, theirs), CHROMIUM, *_OPTIONS, *as_root, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=theirs, env={**os.environ, "HOME": str(folder)}
        )
    for each in theirs:
        os.close(each)
    pipe = Pipe(ours_out, ours_in)
    try:
        yield pipe
        pipe.ask("Browser.close")
    finally:
        os.close(ours_out)
        os.close(ours_in)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
