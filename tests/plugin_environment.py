"""A fresh environment with the little package of tests/plugin_package installed next to everything that is here."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PACKAGE = Path(__file__).parent / "plugin_package"


def install(folder: Path) -> Path:
    """Make a virtual environment in `folder`, install the package into it without any network, return its Python."""
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(here)]
    inside = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    Path(inside, "beside.pth").write_text("\n".join(lines) + "\n")
    source = shutil.copytree(PACKAGE, folder / "source")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(source)],
        check=True,
        capture_output=True,
        text=True,
    )
    return python
