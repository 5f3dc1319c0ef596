"""A real browser without a screen, driven by Chromium's own protocol over two pipes.

No client library is needed for that: messages are JSON, with a zero byte between them.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

PATH = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
ANSWER_S = 60.0


class Browser:
    """One page of a headless Chromium, with what it wrote to its console.

    Args:
        width: Of its window, in pixels.
        height: Of its window, in pixels.
        is_dark: Whether the system is said to prefer dark colours.
    """

    def __init__(self, *, width: int = 1440, height: int = 1000, is_dark: bool = False) -> None:
        assert PATH is not None, "there is no Chromium"
        self.console: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._buffer = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-extensions", "--hide-scrollbars",
            f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "-", PATH, *options],
            pass_fds=(theirs_in, theirs_out),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._folder.name},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, with all of its processes."""
        os.close(self._out)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._in)
        self._folder.cleanup()

    def go(self, url: str) -> None:
        """Load a page."""
        self._ask("Page.navigate", url=url)

    def get(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives; a promise is awaited."""
        answer = self._ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, timeout_s: float = 20.0) -> float:
        """Wait until an expression is true, and return how many seconds that took."""
        begun = time.monotonic()
        while not self.get(expression):
            waited_s = time.monotonic() - begun
            assert waited_s < timeout_s, f"{expression} within {timeout_s} s; {self.console}"
            time.sleep(0.02)
        return time.monotonic() - begun

    def picture(self, path: Path, *, is_whole: bool = False) -> None:
        """Write a PNG of what is seen, or of the whole page."""
        data = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        path.write_bytes(base64.b64decode(data["data"]))

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        ends_at = time.monotonic() + ANSWER_S
        while self._number not in self._answers:
            self._read(ends_at - time.monotonic())
        answer = self._answers.pop(self._number)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, timeout_s: float) -> None:
        ready, _, _ = select.select([self._in], [], [], max(0.0, timeout_s))
        assert ready, "the browser does not answer"
        data = os.read(self._in, 1 << 20)
        assert data, "the browser is gone"
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._take(message["method"], message["params"])

    def _take(self, event: str, told: dict[str, Any]) -> None:
        match event:
            case "Runtime.consoleAPICalled":
                self.console.append(f"{told['type']}: {told['args']}")
            case "Runtime.exceptionThrown":
                self.console.append(f"exception: {told['exceptionDetails']}")
            case "Log.entryAdded":
                self.console.append(f"{told['entry']['level']}: {told['entry']['text']}")
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
