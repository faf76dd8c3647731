"""The one pass: same results whatever the batches, one forward per row, memory that runs out."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dal.errors import LearnerError, NeedError
from dal.learner import Monitor, Prepared
from dal.learners import inference
from dal.learners.collector import Collector
from dal.learners.inference import COMPUTED, run_pass
from dal.learners.training.tensor_rows import TensorPrepared
from dal.modules.active_module import ActiveModule


class Words(ActiveModule):
    """A bag of words with dropout after its trunk, which counts what goes through it."""

    def __init__(self, largest: int | None = None, multilabel: bool = False, fails: str = "CUDA out of memory") -> None:
        super().__init__(num_classes=3, multilabel=multilabel, mc_mode="head")
        self.table = nn.Embedding(50, 16, padding_idx=0)
        self.mix = nn.Linear(16, 16)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(16, 3)
        self.largest, self.fails = largest, fails
        self.forwards, self.rows, self.widths = 0, 0, []

    def split(self, batch):
        ids = batch["input_ids"]
        if self.largest is not None and ids.numel() > self.largest:
            raise torch.OutOfMemoryError(self.fails) if "CUDA" in self.fails else RuntimeError(self.fails)
        self.forwards, self.rows = self.forwards + 1, self.rows + len(ids)
        self.widths.append(ids.numel())
        mask = batch["attention_mask"][..., None].float()
        trunk = self.mix((self.table(ids) * mask).sum(1) / mask.sum(1)).relu()
        return trunk, self.features_from_trunk(batch, trunk)

    def features_from_trunk(self, batch, trunk):
        return self.drop(trunk)

    def trunk(self):
        return self.mix

    def features(self, batch):
        return self.split(batch)[1]

    def head(self, features):
        with torch.autocast("cpu", enabled=False):
            return self.last(features.float())


class Texts(Prepared):
    """Random token rows of random length."""

    def __init__(self, n: int, multilabel: bool = False) -> None:
        generator = torch.Generator().manual_seed(1)
        self.lengths = torch.randint(1, 30, (n,), generator=generator)
        self.tokens = torch.randint(1, 50, (n, 30), generator=generator)
        self.classes, self.multilabel = ("a", "b", "c"), multilabel

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows):
        lengths = self.lengths[rows]
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return {"input_ids": self.tokens[rows, : mask.shape[1]] * mask, "attention_mask": mask.long()}


class Diary(Monitor):
    """Writes down what it is told."""

    def __init__(self, token_budget: int | None = None) -> None:
        self.token_budget, self.budgets, self.total, self.done, self.ended = token_budget, [], 0, 0, False

    def started(self, what, total):
        self.total = total

    def advanced(self, count):
        self.done += count

    def halved(self, token_budget):
        self.budgets.append(token_budget)

    def finished(self):
        self.ended = True


@pytest.fixture
def module() -> Words:
    torch.manual_seed(0)
    return Words()


ALL = frozenset({"logits", "features", "mc_logits", "vote_counts"})


def test_every_row_goes_through_the_trunk_once_for_all_names(module: Words):
    outputs = run_pass(module, Texts(100), names=ALL, samples=7, token_budget=200)
    assert module.rows == 100
    assert outputs.logits.shape == (100, 3)
    assert outputs.features.shape == (100, 16)
    assert outputs.mc_logits.shape == (100, 7, 3)
    assert outputs.vote_counts.sum(1).unique().tolist() == [7]


def test_no_batch_exceeds_the_budget_and_few_are_made(module: Words):
    data = Texts(200)
    run_pass(module, data, token_budget=300)
    assert max(module.widths) <= 300
    assert module.forwards <= int(data.lengths.sum()) / 300 * 1.3 + 2


def test_results_come_in_the_order_asked_for(module: Words):
    data = Texts(50)
    rows = torch.tensor([31, 2, 2, 49, 0])
    every = run_pass(module, data, precision="float32")
    some = run_pass(module, data, rows, precision="float32")
    torch.testing.assert_close(some.logits, every.logits[rows])


@pytest.mark.parametrize("budget", [1, 64, 10_000])
def test_neither_budget_nor_order_changes_the_result(module: Words, budget: int):
    data = Texts(60)
    expected = run_pass(module, data, names={"logits", "features"}, precision="float32", token_budget=500)
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    got = run_pass(module, data, shuffled, names={"logits", "features"}, precision="float32", token_budget=budget)
    torch.testing.assert_close(got.logits, expected.logits[shuffled], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.features, expected.features[shuffled], atol=1e-5, rtol=1e-5)


def test_joint_samples_do_not_depend_on_the_batches(module: Words):
    data, names = Texts(60), {"joint_mc_logits"}
    one = run_pass(module, data, names=names, samples=5, seed=3, precision="float32", token_budget=10_000)
    many = run_pass(module, data, names=names, samples=5, seed=3, precision="float32", token_budget=50)
    torch.testing.assert_close(one.joint_mc_logits, many.joint_mc_logits, atol=1e-5, rtol=1e-5)


def test_the_seed_decides_the_samples(module: Words):
    data, names = Texts(30), {"mc_logits"}
    first, same, other = (run_pass(module, data, names=names, samples=5, seed=s).mc_logits for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_global_random_state_is_left_alone(module: Words):
    before = torch.get_rng_state()
    run_pass(module, Texts(30), names=ALL)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("words", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate memory"])
def test_budget_is_halved_until_a_batch_fits(module: Words, words: str):
    expected = run_pass(module, Texts(80), precision="float32").logits
    module.largest, module.fails, module.rows = 100, words, 0
    diary = Diary()
    got = run_pass(module, Texts(80), precision="float32", token_budget=1000, monitor=diary)
    torch.testing.assert_close(got.logits, expected, atol=1e-5, rtol=1e-5)
    assert module.rows == 80
    assert diary.budgets
    assert diary.budgets == sorted(diary.budgets, reverse=True)
    assert diary.budgets[-1] <= 100
    assert (diary.total, diary.done, diary.ended) == (80, 80, True)


def test_a_row_that_cannot_fit_is_an_error_that_says_what_to_do(module: Words):
    module.largest = 10
    with pytest.raises(LearnerError, match="a single row of 29 tokens does not fit into memory: lower max_length"):
        run_pass(module, Texts(80), token_budget=1000)


def test_other_errors_are_not_taken_for_lack_of_memory(module: Words):
    module.largest, module.fails = 10, "shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="multiplied"):
        run_pass(module, Texts(80))


def test_a_remembered_budget_is_where_the_pass_starts(module: Words):
    run_pass(module, Texts(80), token_budget=10_000, monitor=Diary(token_budget=100))
    assert max(module.widths) <= 100


def test_modes_are_restored_even_after_an_error(module: Words):
    module.train()
    module.drop.eval()
    run_pass(module, Texts(5))
    module.largest = 0
    with pytest.raises(LearnerError):
        run_pass(module, Texts(5))
    assert (module.training, module.mix.training, module.drop.training) == (True, True, False)


def test_dropout_is_off_for_logits(module: Words):
    module.train()
    data = Texts(20)
    assert torch.equal(run_pass(module, data).logits, run_pass(module, data).logits)


def test_gathered_tensors_are_ordinary_float32(module: Words):
    outputs = run_pass(module, Texts(20), names=ALL, precision="bfloat16")
    for name in ALL:
        assert outputs[name].dtype == torch.float32
        assert not outputs[name].is_inference()


def test_bfloat16_stays_near_the_exact_pass(module: Words):
    data = Texts(60)
    exact = run_pass(module, data, precision="float32").logits
    lowered = run_pass(module, data, precision="bfloat16").logits
    assert not torch.equal(exact, lowered)
    torch.testing.assert_close(lowered, exact, atol=0.02, rtol=0.02)


def test_folds_equal_the_reductions_of_the_raw_samples(module: Words):
    data = Texts(40)
    raw = run_pass(module, data, names={"mc_logits"}, samples=6, seed=2)
    folded = run_pass(module, data, names={"mutual_information", "vote_counts"}, samples=6, seed=2)
    torch.testing.assert_close(folded.mutual_information, raw.mutual_information)
    assert torch.equal(folded.vote_counts, raw.vote_counts)


def test_folding_never_holds_all_samples(module: Words, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inference, "LARGEST_SAMPLES", 1000)
    folded = run_pass(module, Texts(400), names={"mutual_information"}, samples=6)
    assert folded.mutual_information.shape == (400,)
    with pytest.raises(LearnerError, match=r"mc_logits of shape \(400, 6, 3\) would take .* GiB"):
        run_pass(module, Texts(400), names={"mc_logits"}, samples=6)


def test_multilabel_outputs_are_independent_bernoullis():
    torch.manual_seed(0)
    outputs = run_pass(Words(multilabel=True), Texts(20, multilabel=True), names={"probs", "vote_counts"}, samples=4)
    assert outputs.multilabel
    torch.testing.assert_close(outputs.probs, outputs._tensors["logits"].sigmoid())
    assert int(outputs.vote_counts.max()) <= 4


def test_nothing_asked_is_nothing_computed(module: Words):
    outputs = run_pass(module, Texts(20), torch.zeros(0, dtype=torch.int64))
    assert len(outputs) == 0
    assert module.forwards == 0


def test_a_name_that_no_module_computes_is_refused_before_any_work(module: Words):
    with pytest.raises(NeedError, match="surprisal"):
        run_pass(module, Texts(20), names={"surprisal"})
    assert module.forwards == 0


def test_collector_puts_batches_where_they_belong():
    collector = Collector({"probs"}, 3, provides={"logits"}, multilabel=False)
    collector.put(torch.tensor([2, 0]), {"logits": torch.tensor([[2.0, 0.0], [0.0, 2.0]])})
    collector.put(torch.tensor([1]), {"logits": torch.tensor([[1.0, 1.0]])})
    assert collector.outputs().probs.argmax(1).tolist()[::2] == [1, 0]


def test_tensor_rows_are_batched_as_they_are():
    rows = SimpleNamespace(inputs=torch.arange(12.0).reshape(4, 3), classes=("a", "b"), multilabel=False)
    data = TensorPrepared(rows.inputs, rows.classes)
    assert torch.equal(data.batch([2, 0])["inputs"], rows.inputs[[2, 0]])


class Full:
    """Stands for a device without room: from some size on, `torch.empty` there says that memory ran out."""

    def __init__(self, monkeypatch, most: int) -> None:
        self.device, self.refused, whole = torch.device("meta"), 0, torch.empty

        def empty(*shape, device=None, **options):
            if device is None or torch.device(device).type != "meta":
                return whole(*shape, device=device, **options)
            if torch.Size(*shape).numel() > most:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
            return whole(*shape, **options)  # what a device would hold

        monkeypatch.setattr(torch, "empty", empty)


def test_what_a_device_has_no_room_for_is_gathered_on_the_cpu(monkeypatch):
    full = Full(monkeypatch, most=0)
    collector = Collector({"features", "logits"}, 6, provides=COMPUTED, multilabel=False, device="meta")
    for rows in (torch.tensor([5, 0, 3]), torch.tensor([1, 2, 4])):
        table = rows[:, None].float()
        collector.put(rows, {"features": table.expand(-1, 4), "logits": table.expand(-1, 2)})
    found = collector.outputs()
    assert full.refused == 1  # asked once, then everything is on the CPU
    assert found.device.type == "cpu"
    assert found.features[:, 0].tolist() == found.logits[:, 1].tolist() == list(range(6))


def test_what_no_memory_has_room_for_is_said_in_one_line(monkeypatch):
    def empty(*shape, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    collector = Collector({"features"}, 6, provides=COMPUTED, multilabel=False)
    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(LearnerError, match=r"features of 6 rows, .* does not fit into memory: set `candidates`"):
        collector.put(torch.arange(6), {"features": torch.zeros(6, 4)})
