"""The trial of the annotation page behind the proxies that are installed."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "behind_a_proxy.py"
    spec = importlib.util.spec_from_file_location("behind_a_proxy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_documented_lines_serve_people_behind_a_real_proxy(script: ModuleType, name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    found = script.trial(name, tmp_path)
    assert [what for what, holds in found.items() if not holds] == []
    assert len(found) > 10
