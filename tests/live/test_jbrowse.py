"""JBrowse 2 in another site's page, with the configuration in docs/clients.md."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pysam
import pytest

from tests.support.live.browser import npm_file, static_site, visit
from tests.support.live.server import Server
from tests.support.live.tools import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live

PACKAGE, VERSION = "@jbrowse/react-app2", "4.3.0"
SCRIPT = "dist/react-app.umd.production.min.js"

PAGE = """<!doctype html><meta charset="utf-8"><title>JBrowse 2</title><link rel="icon" href="data:,">
<div id="jbrowse"></div>
<script src="react-app.umd.production.min.js"></script>
<script>
  const {createRoot, createViewState, JBrowseApp, React} = JBrowseReactApp;
  globalThis.viewState = createViewState({config: %s});
  createRoot(document.getElementById("jbrowse")).render(React.createElement(JBrowseApp, {viewState}));
</script>
"""

# The blocks of the view, each with the reads laid out in it.
BLOCKS = "[...(viewState.session?.views[0]?.tracks[0]?.displays[0].PileupDisplay?.blockState.values() ?? [])]"

IS_DRAWN = f"""() => {{
  const blocks = {BLOCKS};
  const canvases = document.querySelectorAll("[data-testid=pileup-overlay-normal] canvas[data-testid$=_done]");
  const isDrawn = blocks.length > 0 && blocks.every((block) => block.layout?.getRectangles().size);
  return blocks.some((block) => block.error) || (isDrawn && canvases.length >= blocks.length);
}}"""

# The starts and ends of the reads in each block, and the number of opaque pixels in each canvas.
DRAWN = f"""() => {{
  const canvases = [...document.querySelectorAll("canvas[data-testid$=_done]")];
  return {{
    blocks: {BLOCKS}.map((block) => ({{
      name: block.region.refName, start: block.region.start, end: block.region.end, error: block.error ?? null,
      reads: [...(block.layout?.getRectangles().values() ?? [])].map(([left, , right]) => [left, right]),
    }})),
    ink: canvases.map((canvas) => {{
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.reduce((count, value, index) => count + (index % 4 === 3 && value > 0), 0);
    }}),
  }};
}}"""


def documented(server: Server) -> str:
    """The configuration in docs/clients.md, for this server."""
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    match = re.search(r"^## JBrowse 2\n.*?^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert match
    return match[1].replace("http://127.0.0.1:8080", server.url)


def test_jbrowse_draws_a_dataset(browser: "Browser", demo_server: Server, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copy(npm_file(PACKAGE, VERSION, SCRIPT), tmp_path)
    (tmp_path / "index.html").write_text(PAGE % documented(demo_server), encoding="utf-8")
    with static_site(tmp_path) as url, visit(browser, f"{url}/") as tab:
        tab.page.wait_for_function(IS_DRAWN)
        drawn: dict[str, Any] = tab.page.evaluate(DRAWN)
        tab.screenshot("jbrowse")
        assert tab.errors == []
        assert tab.hosts() == {urlsplit(url).netloc, urlsplit(demo_server.url).netloc}
        tickets = [url for url in tab.requests if "/reads/" in url and "?" in url]
    assert f"{demo_server.url}/reads/NA00001?referenceName=na&class=header" in tickets
    with pysam.AlignmentFile(str(demo_folder / "NA00001.bam")) as file:
        for block in drawn["blocks"]:
            assert block["error"] is None
            reads = file.fetch(block["name"], int(block["start"]), int(block["end"]))
            expected = sorted([read.reference_start, read.reference_end] for read in reads if not read.is_unmapped)
            assert len(expected) > 100
            assert sorted(block["reads"]) == expected
    assert len(drawn["ink"]) >= len(drawn["blocks"]) > 0
    assert min(drawn["ink"]) > 1000
