"""The page in a browser, if Chromium is installed: it renders without a network, and is not wider than the window."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from automl_nas_report.run_page import run_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: pages are only parsed")
def test_the_page_is_drawn(complete: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(run_page(complete), encoding="utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run(
        [*command, "--window-size=800,1200", f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (800, 1200)  # the size in a PNG's header
    assert len(content) > 20_000  # an empty page of this size has 4 kB
    dump = subprocess.run([*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=120)
    assert b"What was found" in dump.stdout
