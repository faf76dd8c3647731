"""What the process of the annotation service imports, and how much memory it takes."""

import subprocess
import sys
from pathlib import Path

import pytest
from annotation_project import make_project

ROWS = 30_000

PROGRAM = """
import sys
from pathlib import Path
from dal.annotate.service import open_service
service = open_service(sys.argv[1], trainer=False, overlap="0.1:2")
for who in ("ana", "ben"):
    for n in range(15):
        row = service.state(who)["rows"][0]["id"]
        service.answer(who, row=row, classes=[int(row[1:]) % 3], key=f"{who}{n}")
row = service.search("ana", q="stroke")["rows"][0]["id"]
service.take("ana", row=row)
service.copies("ana", row=row)
service.hints("ana", row=row)
service.progress("ana")
service.history("ana", q="patient", disagree=True)
service.undo("ana", key="u")
service.close()
heavy = "torch", "numpy", "pyarrow", "scipy", "pandas", "sklearn", "dal.data", "dal.session", "dal.learners"
print([name for name in heavy if name in sys.modules])
status = Path("/proc/self/status")
print(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from /proc")
def test_service_needs_no_torch_and_little_memory_for_many_rows(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", n=ROWS)
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    imported, peak = found.stdout.splitlines()
    assert imported == "[]"
    assert int(peak) < 64 * 1024  # kB
