#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium for the report's tests and pictures, spoken to over a pipe.

browser.py FILE.html PICTURE.png [--width 1280] [--height 900] [--dark]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip


class Page:
    """One open page.

    :ivar messages: what the console and the browser's log said; ``requests`` every address asked for.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self.messages: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.ask(method, params, self._session, self)

    def size(self, width: int, height: int, dark: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path) -> None:
        """Load a file, and wait until it is there."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")
        problem = self.ask("Page.navigate", url=file.resolve().as_uri()).get("errorText")
        if problem:
            raise RuntimeError(f"{file}: {problem}")
        self.script(
            "new Promise(done => { const look = () => document.readyState === 'complete'"
            " && location.protocol === 'file:' ? done() : setTimeout(look, 10); look(); })"
        )

    def script(self, text: str) -> Any:
        """The value of an expression in the page (the page's own policy does not reach the debugger)."""
        for _turn in range(50):
            result = self.ask("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
            if "result" in result:
                break  # else a navigation took the page away under the question: ask again
        if "exceptionDetails" in result:
            raise RuntimeError(f"{text}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", {"targetId": self._target})

    def picture(self, file: Path, scale: float = 1.0) -> None:
        """What the window shows, smaller by ``scale``."""
        left, top, width, height = self.script("[scrollX, scrollY, innerWidth, innerHeight]")
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": scale}
        file.write_bytes(
            base64.b64decode(self.ask("Page.captureScreenshot", format="png", clip=clip)["data"])
        )

    def event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(params)[:500])


class Browser:
    """Chromium with an empty profile; ``with Browser() as browser``."""

    def __enter__(self) -> Browser:
        program = subprocess.run(
            [HERE / "chromium.sh"], check=True, capture_output=True, text=True
        ).stdout.strip()
        self._profile = tempfile.TemporaryDirectory(prefix="php-stack-chromium-")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._process = subprocess.Popen(
            # Chromium reads its orders from descriptor 3 and answers on 4.
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "chromium", program, *FLAGS,
             "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._count = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._profile.cleanup()

    def page(self) -> Page:
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Page(self, target, session)

    def ask(
        self, method: str, params: dict[str, Any], session: str = "", page: Page | None = None
    ) -> dict[str, Any]:
        """Send an order and wait for its answer; events go to the page."""
        self._count += 1
        order = {"id": self._count, "method": method, "params": params}
        if session:
            order["sessionId"] = session
        os.write(self._write, json.dumps(order).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                if "error" in answer and "navigat" not in answer["error"]["message"]:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer.get("result", {}))
            if page is not None and "method" in answer:
                page.event(answer["method"], answer["params"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError("Chromium ended")
            self._buffer += data
        message, _end, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=0, help="0 takes the whole page")
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    with Browser() as browser:
        page = browser.page()
        page.size(args.width, args.height or 900, args.dark)
        page.open(args.file)
        if not args.height:
            page.size(args.width, int(page.script("document.documentElement.scrollHeight")), args.dark)
        page.picture(args.picture)


if __name__ == "__main__":
    main()
