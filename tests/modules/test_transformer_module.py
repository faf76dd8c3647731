import pytest
import torch
from architectures import ALL, PAD, build, rows
from torch import nn
from torch.nn import functional as F

from dal.errors import LearnerError
from dal.modules.transformer import TransformerClassifier

LENGTHS = [9, 5, 7, 4]


def last_linear_input(model, batch):
    """What the classification layer receives, found by its number of outputs rather than by the order of calls."""
    seen = []
    for name in ("classifier", "score", "logits_proj", "classification_head"):
        layer = getattr(model, name, None)
        if layer is not None:
            layer = layer if isinstance(layer, nn.Linear) else layer.out_proj
            layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
            break
    logits = model(**batch).logits
    return layer, seen[-1], logits


def assert_same(name, logits, own):
    """Bit for bit. Decoders multiply all tokens at once, which may be rounded otherwise than a product of B rows."""
    if name in ("gpt2", "llama", "qwen2"):
        torch.testing.assert_close(logits, own, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(logits, own)


def native(name, lengths):
    """The rows padded as the architecture itself wants them: XLNet pools at the last column."""
    return rows(lengths, left=name == "xlnet")


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_logits_equal_the_models_own_forward(name):
    model, batch = build(name), native(name, LENGTHS)
    assert_same(name, TransformerClassifier(model)(batch), model(**batch).logits)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_features_are_the_input_of_the_last_linear_layer_and_head_gives_the_logits(name):
    module, batch = TransformerClassifier(build(name)), native(name, LENGTHS)
    _, received, logits = last_linear_input(build(name), batch)
    if received.dim() == 3:  # a decoder: the row's last real token
        received = received[torch.arange(len(LENGTHS)), batch["attention_mask"].sum(1) - 1]
    features = module.features(batch)
    assert torch.equal(features, received)
    assert_same(name, module.head(features), logits)
    assert torch.equal(module.head(features), module(batch))
    assert module.head(features).dtype == torch.float32


@pytest.mark.parametrize("name", ALL)
def test_factored_gradient_equals_autograds(name):
    module, batch = TransformerClassifier(build(name)), native(name, LENGTHS)
    points = module.gradient_embeddings(batch).materialise()
    for row in range(len(LENGTHS)):
        model = build(name)
        layer, _, logits = last_linear_input(model, {key: value[row : row + 1] for key, value in batch.items()})
        loss = F.cross_entropy(logits, logits.argmax(-1))
        (gradient,) = torch.autograd.grad(loss, layer.weight)
        torch.testing.assert_close(points[row], gradient.flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_padding_and_its_side_do_not_matter(name):
    module = TransformerClassifier(build(name))
    plain = module(rows(LENGTHS))
    alone = torch.cat([module(rows([length])) for length in LENGTHS])
    torch.testing.assert_close(plain, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain, module(rows(LENGTHS, width=14)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain, module(rows(LENGTHS, left=True)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_as_many_labels_as_hidden_units_do_not_confuse_the_search(name):
    model, batch = build(name, classes=32), native(name, [6, 4])
    module = TransformerClassifier(model)
    assert_same(name, module(batch), model(**batch).logits)
    assert module.num_classes == 32


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@torch.no_grad()
def test_padding_token_at_the_end_of_a_text_is_still_its_last_token(name):
    module = TransformerClassifier(build(name))
    batch = rows([6])
    batch["input_ids"][0, -1] = PAD
    everything = module.model.base_model(**batch).last_hidden_state
    assert torch.equal(module.features(batch), everything[:, -1])


@pytest.mark.parametrize("name", ["gpt2", "qwen2"])
@torch.no_grad()
def test_decoder_without_a_padding_token_reads_padded_batches(name):
    module = TransformerClassifier(build(name, pad_token_id=None))
    alone = module(rows([4]))
    torch.testing.assert_close(module(rows([7, 4]))[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["bart", "t5"])
@torch.no_grad()
def test_row_with_missing_or_additional_end_tokens_does_not_spoil_its_batch(name):
    model = build(name)
    module = TransformerClassifier(model)
    batch = rows([7, 6, 5])
    before = module(batch)
    batch["input_ids"][0, 6] = 50  # its end token is lost, as when a text is cut
    batch["input_ids"][2, 1] = 2  # a pair of texts has two
    after = module(batch)
    torch.testing.assert_close(after[1:2], before[1:2])
    torch.testing.assert_close(after[:1], before[:1])
    pair = {key: value[2:, :5] for key, value in batch.items()}
    torch.testing.assert_close(after[2:], model(**pair).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_token_types_reach_the_models_that_read_them_and_no_others():
    batch = {**rows([6, 6]), "token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)}
    bert, distil = build("bert"), build("distilbert")
    assert torch.equal(TransformerClassifier(bert)(batch), bert(**batch).logits)
    TransformerClassifier(distil)(batch)


def test_labels_and_weights_of_a_batch_are_not_passed_to_the_model():
    batch = {**rows([6, 6]), "labels": torch.tensor([0, 1]), "weights": torch.ones(2)}
    TransformerClassifier(build("llama"))(batch)


@torch.no_grad()
def test_head_runs_in_float32_after_a_trunk_in_bfloat16():
    module, batch = TransformerClassifier(build("roberta")), rows(LENGTHS)
    exact = module(batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = module.compute(batch, {"logits", "features"})
        out |= module.compute(batch, {"mc_logits"}, samples=3, generator=torch.Generator())
    assert out["logits"].dtype == out["mc_logits"].dtype == torch.float32
    assert torch.equal(out["logits"], module.head(out["features"]))
    assert out["logits"].unique().numel() == exact.numel()  # no ties from rounded logits
    torch.testing.assert_close(out["logits"], exact, rtol=0.1, atol=0.05)


@torch.no_grad()
def test_logits_features_and_head_samples_come_from_one_forward_of_the_trunk():
    module = TransformerClassifier(build("bert"), mc_mode="head")
    calls = []
    module.trunk().encoder.register_forward_hook(lambda *_: calls.append(1))
    names = {"logits", "features", "mc_logits", "joint_mc_logits"}
    module.compute(rows(LENGTHS), names, samples=5, generator=torch.Generator())
    assert len(calls) == 1


def test_model_without_a_classification_layer_is_refused():
    from transformers import BertModel

    with pytest.raises(LearnerError, match="no linear classification layer"):
        TransformerClassifier(BertModel(build("bert").config))


def test_model_whose_logits_do_not_follow_from_its_last_layer_is_refused():
    model = build("distilbert")
    model.classifier.register_forward_hook(lambda module, args, output: output.exp())
    with pytest.raises(LearnerError, match="do not follow from the input of its last linear layer 'classifier'"):
        TransformerClassifier(model)


@torch.no_grad()
def test_features_of_a_model_that_averages_the_logits_of_its_tokens_are_their_mean():
    model = build("eurobert", classifier_pooling="late", classifier_dropout=0.1)
    module = TransformerClassifier(model)
    batch = rows(LENGTHS)
    torch.testing.assert_close(module(batch), model(**batch).logits)
    assert module.features(batch).shape == (4, 32)
    torch.testing.assert_close(module(batch)[1:2], module(rows([5])))
