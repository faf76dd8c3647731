"""`environment.json` of a run folder: the software versions and the hardware that may affect choices."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from dal.store.atomic_files import read_regular, write_whole
from dal.store.bounded_json import parse_json
from dal.store.run_folder import ENVIRONMENT, writing

_PACKAGES = ("deep-active-learning", "torch", "lightning", "transformers", "datasets", "numpy", "scikit-learn", "peft")


def environment() -> dict[str, Any]:
    """Software versions and hardware that may affect choices. Contains no user or host names."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def record_environment(folder: Path) -> list[str]:
    """Names of the entries that differ from the folder's `environment.json`; writes the file if there is none."""
    path, now = folder / ENVIRONMENT, environment()
    try:
        before = parse_json(read_regular(path))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        with writing(path):
            write_whole(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n", private=True)
        return []
    return [key for key, value in now.items() if before.get(key) != value]
