"""The examples of the manual run, and are those of the files that are checked by mypy."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

from conftest import ROOT

HERE = pathlib.Path(__file__).parent


def run(name, environment, *arguments):
    """Runs the examples of a file, each of which is in the manual, and returns their number."""
    command = [sys.executable, HERE / name, *arguments]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, **environment})
    manual = (ROOT / "docs/python.md").read_text()
    text = (HERE / name).read_text().split("if __name__")[0]
    examples = re.split(r"# Example: .*\n", text)[1:]
    for example in examples:
        assert example.strip() in manual, example
    return len(examples)


def test_the_manuals_examples_run(servers, good, tmp_path):
    url = f"{servers.nginx}/{len(good)}"
    assert run("examples.py", {}, url, tmp_path / "file") == 5


def test_the_manuals_examples_with_other_packages_run(servers, good, tmp_path):
    digest = hashlib.sha256(good).hexdigest()
    environment = {"AIS_ENDPOINT": servers.aistore}
    assert run("examples_with.py", environment, servers.aistore, digest, tmp_path) == 6
