"""A real server: started and ended as from a shell, looked at with Chromium where that is installed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs import REPOSITORY

pytestmark = pytest.mark.slow
pytest.importorskip("fastapi", reason="geoseg[serve] is not installed")

SAMPLE = REPOSITORY / "sample_data"
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "geoseg", "serve", SAMPLE / "scene.tif", "--port", "0"]
    command += ["--layer", SAMPLE / "buildings.gpkg", "--threshold", "0.555"]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        patience = threading.Timer(90, server.kill)
        patience.start()
        found = re.search(r"at (http://127\.0\.0\.1:\d+/)", server.stderr.readline())
        try:
            assert found, server.stderr.read()
            yield found[1]
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0
            assert not server.stderr.read()
        finally:
            patience.cancel()
            server.kill()


def test_a_server_answers_and_ends_when_it_is_told_to(address: str) -> None:
    with urllib.request.urlopen(f"{address}prediction/scene/17/69705/45351.png?raw") as answer:
        assert answer.read(4) == b"\x89PNG"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_server_ends_in_order_whatever_ends_it(name: str) -> None:
    command = [sys.executable, "-m", "geoseg", "serve", str(SAMPLE / "scene.tif"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        patience = threading.Timer(90, server.kill)
        patience.start()
        assert server.stderr is not None
        line = server.stderr.readline()
        with urllib.request.urlopen(re.findall(r"http://127\.0\.0\.1:\d+/", line)[0]) as answer:
            assert answer.status == 200
        server.send_signal(getattr(signal, name))
        assert server.wait(20) == 0
        assert not server.stderr.read()
        patience.cancel()


def test_the_page_in_a_browser(address: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing (the group dev brings it)")
    wrong: list[str] = []
    with (
        api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=SOFTWARE) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on(
            "request",
            lambda asked: asked.url.startswith((address, "blob:", "data:")) or wrong.append(asked.url),
        )

        def rest() -> None:
            for _ in range(300):
                page.wait_for_timeout(200)
                if page.evaluate("over.loaded() && under.loaded() && over.areTilesLoaded()"):
                    return
            pytest.fail("the map is never complete")

        def colored(name: str) -> float:
            rest()
            page.screenshot(path=tmp_path / f"{name}.png")
            image = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
            return float((image[..., 0] - image[..., 1:].max(axis=-1) > 90).mean())

        page.goto(address)
        page.wait_for_selector("body[data-ready=true]", timeout=60_000)
        assert page.inner_text("#level") == "0.555"
        page.locator("#opacity").fill("1")
        usual = colored("usual")  # and MapLibre has taken the addresses of its source over
        assert usual > 0.02
        assert page.evaluate("over.getSource('prediction').tiles[0]").startswith("raw://0.555/")
        page.locator("#threshold").fill("0.95")
        assert colored("certain") < usual
        page.locator("#threshold").fill("0.55")
        page.check("#compare")
        assert 0.2 * usual < colored("swipe") < 0.8 * usual
        page.uncheck("#compare")
        page.evaluate("over.jumpTo({center: [11.4488, 48.3873], zoom: 18})")
        rest()
        page.mouse.click(
            *page.evaluate(
                "(() => { for (let x = 300; x < 1200; x += 10) for (let y = 100; y < 700; y += 10)"
                "if (over.queryRenderedFeatures([x, y], {layers: ['buildings']}).length) return [x, y]; })()"
            )
        )
        page.wait_for_selector(".maplibregl-popup table", timeout=20_000)
        page.click("#run")
        page.get_by_text("view-1").wait_for(timeout=90_000)
        assert "features" in page.inner_text("#message")
        assert colored("mapped") > 0
    assert not wrong
