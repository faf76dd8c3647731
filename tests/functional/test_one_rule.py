"""What users meet: kernels and figures without the checks of types that tests add to every call."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("file", ["functional/one_rule.py", "evaluation/one_rule.py"])
def test_one_rule_holds_without_checks_of_types(file):
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-o", "addopts=", "-p", "no:cacheprovider", file]
    run = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
