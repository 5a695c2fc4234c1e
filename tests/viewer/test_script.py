"""What the script of the page computes before it draws: neighbors, places, ticks and numbers."""

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from sparse_jax.viewer import page
from sparse_jax.viewer.drawing import site_table

CHECKS = Path(__file__).with_name("checks.js")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the script of the page")
def test_script_computes_what_it_draws():
    folder = resources.files(page.__package__).joinpath("template")
    # The last script touches the document; the others only define.
    parts = [folder.joinpath(name).read_text(encoding="utf-8") for name in page.SCRIPTS[:-1]]
    table = f"const siteTable = {json.dumps(site_table())};"
    script = "\n".join(['"use strict";', *parts, table, CHECKS.read_text(encoding="utf-8")])
    done = subprocess.run(["node", "-"], input=script, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
