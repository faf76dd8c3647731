import json
import shutil

import pytest
import torch
from architectures import build, rows
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, pipeline

from dal.errors import LearnerError, MissingExtraError
from dal.modules.loading import choose_pad_token, load_classifier, locate
from dal.modules.transformer import TransformerClassifier

CLASSES = ["access", "billing", "feedback", "shipping"]


@pytest.fixture
def package(tmp_path, monkeypatch, tiny_bert):
    """A package that holds a model and must not be imported."""
    folder = tmp_path / "some_models"
    shutil.copytree(tiny_bert, folder / "small")
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_hub_name_is_returned_as_it_is():
    assert locate("some-org/some-model") == "some-org/some-model"


def test_folder_inside_a_package_is_found_without_importing_it(package):
    assert locate("package:some_models/small") == str(package / "small")


def test_missing_package_is_answered_with_what_to_install():
    with pytest.raises(MissingExtraError, match="pip install no-such-thing"):
        locate("package:no_such_thing/model")


def test_missing_folder_inside_a_package_is_refused(package):
    with pytest.raises(LearnerError, match=r"some_models/large.* does not exist"):
        locate("package:some_models/large")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/no-where-at-all"])
def test_missing_folder_is_refused(name):
    with pytest.raises(LearnerError, match="does not exist"):
        locate(name)


def test_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(LearnerError, match=r"no config\.json"):
        locate(tmp_path)


def test_model_that_cannot_be_had_is_one_line(tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").unlink()
    with pytest.raises(LearnerError, match="could not be loaded") as caught:
        load_classifier(tmp_path / "broken", 3)
    assert "\n" not in str(caught.value)


def test_architecture_that_does_not_classify_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(LearnerError, match="could not be loaded"):
        load_classifier(tmp_path, 3)


def test_new_head_has_the_classes_and_depends_on_the_seed_alone(tiny_bert):
    before = torch.get_rng_state()
    first, second, other = (TransformerClassifier(tiny_bert, CLASSES, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.num_classes == 4
    assert first.model.config.id2label == dict(enumerate(CLASSES))
    assert first.model.config.label2id["shipping"] == 3
    assert torch.equal(first.model.classifier.weight, second.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)


def test_loading_says_nothing_of_the_new_head(tiny_bert, capfd):
    TransformerClassifier(tiny_bert, CLASSES)
    assert capfd.readouterr() == ("", "")


def test_weights_are_float32_whatever_the_checkpoint_holds(tmp_path):
    build("bert").to(torch.bfloat16).save_pretrained(tmp_path / "half")
    module = TransformerClassifier(tmp_path / "half")
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


@pytest.fixture
def finetuned(tmp_path):
    model = build("roberta", classes=3)
    TransformerClassifier(model, ["a", "b", "c"]).save(tmp_path / "finetuned")
    return tmp_path / "finetuned", model


@torch.no_grad()
def test_finetuned_classifier_keeps_its_head_when_the_labels_are_the_same(finetuned):
    folder, model = finetuned
    for module in (TransformerClassifier(folder, ["a", "b", "c"]), TransformerClassifier(folder)):
        head = module.model.classifier.out_proj
        assert torch.equal(head.weight, model.classifier.out_proj.weight)
        assert torch.equal(head.bias, model.classifier.out_proj.bias)
        # where a weight lies in memory decides, on some processors, how its products are summed
        torch.testing.assert_close(module(rows([5])), model(**rows([5])).logits, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_finetuned_head_follows_the_labels_into_another_order(finetuned):
    folder, model = finetuned
    module = TransformerClassifier(folder, ["c", "a", "b"])
    assert torch.equal(module.model.classifier.out_proj.weight, model.classifier.out_proj.weight[[2, 0, 1]])
    assert torch.equal(module.model.classifier.out_proj.bias, model.classifier.out_proj.bias[[2, 0, 1]])
    torch.testing.assert_close(module(rows([5])), model(**rows([5])).logits[:, [2, 0, 1]], rtol=1e-5, atol=1e-6)
    assert module.model.config.id2label == {0: "c", 1: "a", 2: "b"}


@pytest.mark.parametrize("classes", [["x", "y", "z"], ["a", "b"], ["a", "b", "c", "d"]])
def test_finetuned_classifier_gets_a_new_last_layer_for_other_labels(finetuned, classes):
    folder, model = finetuned
    module = TransformerClassifier(folder, classes)
    weight = module.model.classifier.out_proj.weight
    assert weight.shape == (len(classes), 32)
    assert not torch.equal(weight[:2], model.classifier.out_proj.weight[:2])
    assert torch.equal(
        module.trunk().embeddings.word_embeddings.weight, model.roberta.embeddings.word_embeddings.weight
    )


def test_built_model_with_another_number_of_outputs_is_refused():
    with pytest.raises(LearnerError, match="3 outputs, but there are 2 classes"):
        TransformerClassifier(build("bert"), ["a", "b"])


def test_checkpoint_that_lacks_most_weights_is_refused_rather_than_trained_from_noise(tmp_path):
    build("bert").save_pretrained(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "encoder" not in name}
    save_file(kept, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LearnerError, match=r"holds only 7 of the 39 weights"):
        load_classifier(tmp_path / "model", 3)


def test_checkpoint_whose_weights_do_not_fit_its_config_is_refused(tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    with pytest.raises(LearnerError, match="6 weights do not have the shape"):
        load_classifier(tmp_path / "other", 3)


def test_dropout_can_be_set_so_that_a_model_without_any_can_be_sampled(tmp_path):
    build("modernbert").save_pretrained(tmp_path / "modern")
    with pytest.raises(LearnerError, match="no dropout above 0"):
        TransformerClassifier(tmp_path / "modern").check_dropout()
    for mode in ("head", "full"):
        TransformerClassifier(tmp_path / "modern", dropout=0.2, mc_mode=mode).check_dropout()


def test_dropout_that_a_model_does_not_have_cannot_be_set(tmp_path):
    build("llama").save_pretrained(tmp_path / "llama")
    with pytest.raises(LearnerError, match="no dropout to set"):
        TransformerClassifier(tmp_path / "llama", dropout=0.2)
    with pytest.raises(LearnerError, match="already built"):
        TransformerClassifier(build("bert"), dropout=0.2)


def test_multilabel_is_written_into_the_config():
    module = TransformerClassifier(build("bert"), ["a", "b", "c"], multilabel=True)
    assert module.model.config.problem_type == "multi_label_classification"
    assert module.multilabel


@torch.no_grad()
def test_saved_folder_is_loaded_by_a_pipeline_which_gives_label_names(tiny_bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    module = TransformerClassifier(tiny_bert, CLASSES, seed=3)
    module.save(tmp_path / "model", tokenizer)
    answer = pipeline("text-classification", str(tmp_path / "model"))("my parcel is late", top_k=None)
    logits = module(dict(tokenizer("my parcel is late", return_tensors="pt")))[0]
    expected = dict(zip(CLASSES, logits.softmax(-1).tolist(), strict=True))
    assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(expected, abs=1e-5)
    assert sorted(path.name for path in (tmp_path / "model").glob("*.safetensors")) == ["model.safetensors"]


@torch.no_grad()
def test_saved_decoder_finds_the_last_token_by_the_padding_of_its_tokenizer(tiny_bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, eos_token_id=3, num_labels=4)
    module = TransformerClassifier(GPT2ForSequenceClassification(config).eval(), CLASSES)
    module.save(tmp_path / "model", tokenizer)
    texts = ["my parcel is late", "again my invoice was wrong and please help"]
    answers = pipeline("text-classification", str(tmp_path / "model"), batch_size=2)(texts, top_k=None)
    probs = module(dict(tokenizer(texts, padding=True, return_tensors="pt"))).softmax(-1)
    for answer, row in zip(answers, probs.tolist(), strict=True):
        assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(
            dict(zip(CLASSES, row, strict=True)), abs=1e-5
        )


def test_saving_replaces_the_folder_whole_and_leaves_nothing_beside_it(tmp_path):
    module = TransformerClassifier(build("bert"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    module.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old").exists()


def test_failed_save_leaves_the_folder_as_it_was(tmp_path, tiny_bert):
    module = TransformerClassifier(build("bert"))
    module.save(tmp_path / "model")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "model").iterdir())
    with pytest.raises(AttributeError):
        module.save(tmp_path / "model", tokenizer=object())
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "model").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_padding_token_is_never_the_one_that_texts_end_in(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert choose_pad_token(tokenizer) == tokenizer.convert_tokens_to_ids("[PAD]")
    tokenizer.pad_token = "[SEP]"
    assert choose_pad_token(tokenizer) == tokenizer.convert_tokens_to_ids("[UNK]")
    assert tokenizer.pad_token == "[UNK]"


def test_padding_token_of_a_decoder_without_one_is_set_in_its_config():
    config = GPT2Config(vocab_size=100, n_embd=32, n_layer=1, n_head=2, eos_token_id=7, bos_token_id=7)
    assert config.pad_token_id is None
    module = TransformerClassifier(GPT2ForSequenceClassification(config))
    assert module.model.config.pad_token_id == 7
