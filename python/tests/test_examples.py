"""The examples of the manual run, and are those of the file that is checked by mypy."""

import pathlib
import re
import subprocess
import sys

from conftest import ROOT


def test_the_manuals_examples_run(servers, good, tmp_path):
    here = pathlib.Path(__file__).with_name("examples.py")
    url = servers.nginx + "/" + str(len(good))
    subprocess.run([sys.executable, here, url, tmp_path / "file"], check=True, timeout=120)
    manual = (ROOT / "docs/python.md").read_text()
    examples = re.split(r"# Example: .*\n", here.read_text().split('if __name__')[0])[1:]
    assert len(examples) >= 5
    for example in examples:
        assert example.strip() in manual, example
