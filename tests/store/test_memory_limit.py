"""The memory that a process may use: that of the computer, or of its container or job."""

import pytest

from dal.errors import ConfigError
from dal.store import memory_limit as module
from dal.store.memory_limit import check_processes, memory_limit


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of Linux in a folder: writes the membership of the process, and limits by file."""
    monkeypatch.setattr(module, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "groups")

    def write(membership, limits):
        (tmp_path / "membership").write_text(membership, encoding="utf-8")
        for name, value in limits.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value, encoding="utf-8")

    return write


@pytest.fixture
def computer(groups, monkeypatch):
    """A computer with 1,000 pages of 10 bytes."""
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 10}
    monkeypatch.setattr(module.os, "sysconf", pages.__getitem__, raising=False)


@pytest.mark.usefixtures("computer")
def test_without_groups_the_limit_is_the_memory_of_the_computer():
    assert memory_limit() == 10_000


@pytest.mark.usefixtures("computer")
def test_the_smallest_limit_of_a_job_and_the_groups_above_it_counts(groups):
    limits = {"jobs/memory.max": "3000\n", "jobs/17/memory.max": "max\n", "other/memory.max": "5\n"}
    groups("0::/jobs/17\n", limits)
    assert memory_limit() == 3000


@pytest.mark.usefixtures("computer")
def test_a_container_sees_its_own_group_as_the_root(groups):
    groups("0::/\n", {"memory.max": "4000\n"})
    assert memory_limit() == 4000


@pytest.mark.usefixtures("computer")
def test_groups_of_version_1_are_read(groups):
    groups("5:cpu:/jobs\n4:memory:/jobs\n", {"memory/jobs/memory.limit_in_bytes": "2000\n", "jobs/memory.max": "7\n"})
    assert memory_limit() == 2000


@pytest.mark.usefixtures("computer")
def test_a_limit_above_the_memory_of_the_computer_is_none(groups):
    groups("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory_limit() == 10_000


def test_a_system_that_does_not_say_has_no_limit(groups, monkeypatch):
    monkeypatch.delattr(module.os, "sysconf", raising=False)
    assert memory_limit() is None


def test_processes_that_do_not_fit_are_refused_and_one_always_fits(groups):
    groups("0::/job\n", {"job/memory.max": str(3 * 2**30)})
    check_processes(6, "devices")
    with pytest.raises(
        ConfigError, match=r"^devices is 999999, but the memory here \(3 GiB\) is enough for 6 processes"
    ):
        check_processes(999_999, "devices")
    groups("0::/job\n", {"job/memory.max": "1000"})
    check_processes(1, "devices")
