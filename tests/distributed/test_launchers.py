"""What the environment of torchrun and srun says about a rank."""

import pytest

from dal.distributed.launchers import LaunchedRank, launched_rank, launcher_store
from dal.errors import ConfigError, RankError

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1", "MASTER_PORT": "29400",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_NTASKS": "8",
}  # fmt: skip


def test_torchrun_names_rank_and_meeting_place():
    assert launched_rank(TORCHRUN) == LaunchedRank(5, 8, 1, 4, "node1", 29400)
    assert launched_rank(TORCHRUN | {"LOCAL_WORLD_SIZE": "8"}).one_computer  # type: ignore[union-attr]


def test_srun_is_read_as_torchrun_is():
    assert launched_rank(SRUN) == LaunchedRank(5, 8, 1, 4, "gpu07", 29500)
    assert launched_rank(SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}) == LaunchedRank(
        5, 8, 1, 4, "10.0.0.1", 1
    )


@pytest.mark.parametrize(
    "environment", [{}, TORCHRUN | {"WORLD_SIZE": "1"}, {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}]
)
def test_one_process_and_a_batch_script_without_srun_have_no_rank(environment: dict[str, str]):
    assert launched_rank(environment) is None


@pytest.mark.parametrize("lacking", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_half_an_environment_is_refused(lacking: str):
    with pytest.raises(ConfigError, match="RANK is set, as torchrun does, but not all of"):
        launched_rank({name: value for name, value in TORCHRUN.items() if name != lacking})


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "8"},
        {"RANK": "-1"},
        {"WORLD_SIZE": "-8"},
        {"LOCAL_RANK": "8"},
        {"LOCAL_WORLD_SIZE": "9"},
        {"MASTER_PORT": "99999"},
    ],
)
def test_numbers_that_no_launcher_gives_are_refused_at_once(wrong: dict[str, str]):
    """Rank 0 would wait for minutes for ranks that never come."""
    with pytest.raises(ConfigError, match=f"contradict each other .*{next(iter(wrong))}={next(iter(wrong.values()))}"):
        launched_rank(TORCHRUN | wrong)


def test_nodes_with_unequal_numbers_of_tasks_are_accepted():
    launched = launched_rank(SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2,3(x2)", "SLURM_LOCALID": "2"})
    assert launched is not None
    assert (launched.local_rank, launched.size) == (2, 8)


@pytest.mark.parametrize("lacking", ["SLURM_PROCID", "SLURM_LOCALID"])
def test_half_an_environment_of_srun_is_refused(lacking: str):
    with pytest.raises(ConfigError, match=f"SLURM_STEP_NUM_TASKS is set, as srun does, but not {lacking}: "):
        launched_rank({name: value for name, value in SRUN.items() if name != lacking})


def test_unreadable_number_of_tasks_is_no_launcher():
    assert launched_rank({"SLURM_STEP_NUM_TASKS": "many"}) is None


def test_computer_that_is_not_found_is_one_line_at_once(capfd: pytest.CaptureFixture[str]):
    launched = LaunchedRank(1, 2, 0, 1, "no-such-host.invalid", 29400)
    with pytest.raises(RankError, match="rank 1 cannot find the computer of rank 0: MASTER_ADDR is 'no-such-host"):
        launcher_store(launched, 300)
    assert capfd.readouterr().err == ""
