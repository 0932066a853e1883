"""A real browser, what igv.js has drawn in it, and pysam's counts of what igv.js should draw."""

import contextlib
import http.server
import json
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pysam

from htsget_flask.browser.content_security import igv_js
from htsget_flask.config import folder_config
from tests.support.live.tools import ROOT, missing, tool

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

LAPTOP = (1366, 850)
PHONE = (390, 844)
SCREENSHOTS = ROOT / "build" / "screenshots"

# The variables before the tests change them: npm may need a proxy and a registry.
_ENVIRONMENT = dict(os.environ)
# The browser sends no requests on its own account; root may not run it in its sandbox.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_OTHER_SITE = """<!doctype html><meta charset="utf-8"><title>Another site</title><link rel="icon" href="data:,">
<div id="igv"></div>
<script type="module">
  import igv from "./igv.esm.min.js";
  const settings = {loadDefaultGenomes: false, search: false};
  globalThis.igvBrowser = await igv.createBrowser(document.getElementById("igv"), {...settings, ...%s});
</script>
"""

_TIMEOUT = 20_000  # ms

_IS_STILL = """() => {
  const views = globalThis.igvBrowser?.trackViews ?? [];
  return views.length > 2 && views.every((view) => view.viewports.every((one) => !one.loading));
}"""

_TRACKS = """() => igvBrowser.trackViews.map((view) => {
  const [viewport] = view.viewports;
  const features = viewport.featureCache?.features;
  const frame = viewport.referenceFrame;
  const [start, end] = [Math.floor(frame.start), Math.ceil(frame.end)];
  const first = (one) => (one.pos ? one.pos - 1 : one.start);
  const isIn = (one) => first(one) >= start && first(one) < end;
  const all = features?.allAlignments?.() ?? (Array.isArray(features) ? features : []);
  const canvas = viewport.canvas;
  let ink = 0;
  if (canvas && canvas.width && canvas.height) {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let offset = 0; offset < pixels.length; offset += 4) {
      const isWhite = pixels[offset] + pixels[offset + 1] + pixels[offset + 2] === 765;
      if (pixels[offset + 3] && !isWhite) ink += 1;
    }
  }
  return {
    type: view.track.type, name: view.track.name, chr: frame.chr, start, end, ink,
    count: all.filter(isIn).length, sequence: features?.sequence ?? null,
    values: all.filter(isIn).map((one) => one.value ?? null),
  };
})"""

_ALERTS = """() => [...document.querySelectorAll("*")]
  .map((one) => one.shadowRoot).filter(Boolean)
  .flatMap((root) => [...root.querySelectorAll(".igv-ui-alert-dialog-container")])
  .filter((dialog) => getComputedStyle(dialog).display !== "none")
  .map((dialog) => dialog.innerText)"""


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A headless Chromium with an empty profile."""
    program = tool("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install -e '.[browser]'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def igv_js_file() -> Path:
    """igv.js in the version that the page loads, from npm; cached in build/."""
    url = igv_js(folder_config(ROOT)).url
    match = re.search(r"/igv@([0-9.]+)/(dist/.+)$", url)
    assert match, url
    return npm_file("igv", match[1], match[2])


def npm_file(package: str, version: str, name: str) -> Path:
    """A file of a version of an npm package; cached in build/."""
    cached = ROOT / "build" / f"{package.rpartition('/')[2]}-{version}" / Path(name).name
    if cached.is_file():
        return cached
    npm = tool("npm")
    home = {"HOME": pwd.getpwuid(os.getuid()).pw_dir}
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", "--silent", f"{package}@{version}"],
            cwd=folder,
            env={**_ENVIRONMENT, **home},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        archives = list(Path(folder).glob("*.tgz"))
        if packed.returncode or not archives:
            missing(f"npm cannot fetch {package} {version}: {packed.stderr.decode(errors='replace')[-500:]}")
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(f"package/{name}")
            assert member is not None
            content = member.read()
    cached.parent.mkdir(parents=True, exist_ok=True)
    unfinished = cached.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(cached)
    return cached


class Visit:
    """A page in the browser, its errors and its requests."""

    def __init__(self, context: "BrowserContext", page: "Page") -> None:
        self.context = context
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(_TIMEOUT)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, kind: str, text: str) -> None:
        # Violations of the page's Content-Security-Policy are errors too.
        if kind == "error":
            self.errors.append(text)

    def tracks(self, *types: str) -> dict[str, dict[str, Any]]:
        """The tracks of igv.js once it is idle, by name, or by type where a track has no name.

        `types`: the method waits until each of these types has a track that is drawn.
        """
        are_drawn = "(types) => types.every((type) => igvBrowser.trackViews.some((view) => view.track.type === type"
        self.page.wait_for_function(_IS_STILL)
        self.page.wait_for_function(f"{are_drawn} && view.viewports[0].canvas))", arg=list(types))
        return {track["name"] or track["type"]: track for track in self.page.evaluate(_TRACKS)}

    def alerts(self) -> list[str]:
        """The texts of igv.js' alert dialogs."""
        texts: list[str] = self.page.evaluate(_ALERTS)
        return texts

    def message(self) -> str:
        """The page's own message, once there is one."""
        self.page.locator("#message:not([hidden])").wait_for()
        return str(self.page.locator("#message").inner_text())

    def hosts(self) -> set[str]:
        """The hosts, with their ports, that it sent requests to."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}

    def screenshot(self, name: str) -> None:
        """Save an image of the window for people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def visit(
    browser: "Browser",
    url: str,
    *,
    size: tuple[int, int] = LAPTOP,
    answers: Mapping[str, bytes | None] | None = None,
    dark: bool = False,
    ignore_https_errors: bool = False,
) -> Iterator[Visit]:
    """Open a URL in a new window with an empty profile.

    `answers` replaces what other URLs answer; None refuses the connection.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        ignore_https_errors=ignore_https_errors,
    )
    with contextlib.closing(context):
        page = context.new_page()
        for other_url, content in (answers or {}).items():
            page.route(other_url, partial(_answer, content))
        tab = Visit(context, page)
        page.goto(url)
        yield tab


def _answer(content: bytes | None, route: "Route") -> None:
    if content is None:
        route.abort("connectionrefused")
        return
    headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
    route.fulfill(status=200, headers=headers, body=content)


@contextmanager
def static_site(folder: Path) -> Iterator[str]:
    """The URL of a web server for the files of a folder, on a free port."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def other_site(browser: "Browser", folder: Path, settings: dict[str, Any]) -> Iterator[Visit]:
    """igv.js with these settings in a page of another server, which serves `folder`."""
    shutil.copy(igv_js_file(), folder)
    (folder / "index.html").write_text(_OTHER_SITE % json.dumps(settings), encoding="utf-8")
    with static_site(folder) as url, visit(browser, f"{url}/") as tab:
        yield tab


def count_reads(path: Path, name: str, start: int, end: int) -> int:
    """The number of reads that igv.js shows and that start in a region: no duplicates, no reads that failed QC."""
    with pysam.AlignmentFile(str(path)) as file:
        reads = (
            read
            for read in file.fetch(name, start, end)
            if not (read.is_unmapped or read.is_duplicate or read.is_qcfail)
        )
        return sum(start <= read.reference_start for read in reads)


def count_variants(path: Path, name: str, start: int, end: int) -> int:
    """The number of variants that start in a region."""
    with pysam.VariantFile(str(path)) as file:
        return sum(start <= record.start for record in file.fetch(name, start, end))
