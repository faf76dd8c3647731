"""The probe learner: a convex fit on frozen vectors."""

from pathlib import Path
from types import SimpleNamespace

import material
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dal.data import Rows, Splits
from dal.errors import ConfigError, DataError, LearnerError, NeedError
from dal.functional import logit_adjustment
from dal.learners.probe_learner import ProbeLearner
from dal.session import Session
from dal.strategies import LikelyPerClass
from dal.testing import check_learner

CLASSES = ("a", "b", "c", "d")


def vectors(n=200, d=16, seed=0, multilabel=False, spread=1.0):
    x, y = material.clusters(n, d=d, seed=seed, spread=spread)
    rows = SimpleNamespace(inputs=x, classes=CLASSES, multilabel=multilabel, fingerprint=f"{n}-{d}-{seed}")
    return rows, torch.nn.functional.one_hot(y, 4).bool() if multilabel else y


def fitted(learner=ProbeLearner(model=None, device="cpu"), labels=40, **kwargs):  # noqa: B008
    rows, y = vectors(multilabel=kwargs.pop("multilabel", False))
    data = learner.prepare(rows)
    chosen = torch.arange(labels)
    return data, y, learner.fit(data, chosen, y[chosen], seed=0, **kwargs)


def test_separable_vectors_are_learned():
    data, y, predictor = fitted()
    accuracy = (predictor.outputs(data).logits.argmax(1) == y).float().mean()
    assert accuracy > 0.95


def test_logits_follow_from_features_through_the_head():
    data, _, predictor = fitted()
    outputs = predictor.outputs(data, names={"logits", "features", "grads"})
    assert torch.equal(outputs.logits, outputs.features @ predictor.head.weight.T + predictor.head.bias)
    assert outputs.grads.a.shape == (200, 4)


def test_fit_agrees_with_scikit_learn():
    rows, y = vectors(spread=3.0)
    learner = ProbeLearner(model=None, device="cpu", l2=0.5)
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(100), y[:100], seed=0)
    x = predictor.outputs(data, names={"features"}).features.double().numpy()
    padded = torch.nn.functional.pad(torch.from_numpy(x), (0, 1), value=1.0).numpy()
    theirs = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10, max_iter=1000).fit(padded[:100], y[:100])
    ours = predictor.outputs(data, names={"probs"}).probs
    torch.testing.assert_close(ours.double(), torch.from_numpy(theirs.predict_proba(padded)), atol=1e-4, rtol=1e-3)


def test_fewer_rows_than_features_reach_the_same_optimum():
    rows, y = vectors(d=64, spread=3.0)
    learner = ProbeLearner(model=None, device="cpu", l2=1.0)
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(30), y[:30], seed=0)
    x = torch.nn.functional.pad(predictor.outputs(data, names={"features"}).features.double(), (0, 1), value=1.0)[:30]
    theirs = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x.numpy(), y[:30])
    ours = torch.cat([predictor.head.weight, predictor.head.bias[:, None]], 1).double()
    torch.testing.assert_close(ours, torch.from_numpy(theirs.coef_), atol=1e-3, rtol=1e-2)


def test_a_class_without_labels_becomes_unlikely_and_breaks_nothing():
    rows, y = vectors()
    learner = ProbeLearner(model=None, device="cpu")
    data = learner.prepare(rows)
    chosen = (y < 3).nonzero().flatten()[:40]
    probs = learner.fit(data, chosen, y[chosen], seed=0).outputs(data, chosen, {"probs"}).probs
    assert bool((probs[:, 3] < 0.1).all())


def test_multilabel_is_one_against_the_rest():
    data, y, predictor = fitted(multilabel=True)
    outputs = predictor.outputs(data, names={"probs", "mutual_information"})
    assert ((outputs.probs > 0.5) == y).float().mean() > 0.95
    assert outputs.multilabel


def test_disagreement_is_larger_far_from_the_labels():
    data, _, predictor = fitted()
    drawn = predictor.outputs(data, torch.arange(40), {"joint_mc_logits", "logits"})
    assert drawn.joint_mc_logits.shape == (40, 20, 4)
    far = ProbeLearner(model=None, device="cpu").prepare(
        SimpleNamespace(inputs=10 * data.inputs, classes=CLASSES, multilabel=False, fingerprint="far")
    )
    spread = drawn.joint_mc_logits.std(1).mean()
    assert predictor.outputs(far, torch.arange(40), {"joint_mc_logits"}).joint_mc_logits.std(1).mean() > 2 * spread


def test_samples_average_to_the_logits():
    data, _, predictor = fitted(ProbeLearner(model=None, device="cpu", samples=4000))
    outputs = predictor.outputs(data, torch.arange(5), {"mc_logits", "logits"})
    error = outputs.mc_logits.std(1) / 4000**0.5
    assert bool(((outputs.mc_logits.mean(1) - outputs.logits).abs() < 5 * error).all())


def test_same_seed_gives_same_samples_whatever_the_rows():
    data, _, predictor = fitted()
    every = predictor.outputs(data, names={"mc_logits"}, seed=3).mc_logits
    some = predictor.outputs(data, torch.tensor([7, 3]), {"mc_logits"}, seed=3).mc_logits
    torch.testing.assert_close(some, every[[7, 3]])
    assert not torch.allclose(predictor.outputs(data, names={"mc_logits"}, seed=4).mc_logits, every)


def test_sample_weights_count():
    data, y, plain = fitted()
    weights = torch.ones(40)
    weights[y[:40] == 0] = 0.0
    *_, weighted = fitted(weights=weights)
    predicted = [int((fit.outputs(data).logits.argmax(1) == 0).sum()) for fit in (weighted, plain)]
    assert predicted[0] < predicted[1] / 2


def test_balanced_classes_raise_the_rare_one():
    rows, y = vectors(spread=4.0)
    rare = torch.cat([(y == 0).nonzero().flatten()[:3], (y == 1).nonzero().flatten()[:40]])
    found = []
    for rule in (None, "balanced"):
        learner = ProbeLearner(model=None, device="cpu", class_weights=rule)
        data = learner.prepare(rows)
        found.append(int((learner.fit(data, rare, y[rare], seed=0).outputs(data).logits.argmax(1) == 0).sum()))
    assert found[1] > found[0]


def test_one_class_is_refused_in_plain_words():
    rows, y = vectors()
    learner = ProbeLearner(model=None, device="cpu")
    data = learner.prepare(rows)
    same = (y == 2).nonzero().flatten()[:5]
    with pytest.raises(LearnerError, match="all 5 labels are 'c'"):
        learner.fit(data, same, y[same], seed=0)


def test_untrained_offers_embeddings_only():
    learner = ProbeLearner(model=None, device="cpu")
    data = learner.prepare(vectors()[0])
    untrained = learner.untrained(data)
    assert torch.equal(untrained.outputs(data, torch.tensor([2, 0]), {"embeddings"}).embeddings, data.inputs[[2, 0]])
    with pytest.raises(NeedError, match="logits"):
        untrained.outputs(data)


def test_unknown_name_is_refused():
    data, _, predictor = fitted()
    with pytest.raises(NeedError, match="surprisal"):
        predictor.outputs(data, names={"surprisal"})


def test_saved_predictor_comes_back_equal(tmp_path: Path):
    data, _, predictor = fitted()
    predictor.save(tmp_path / "model")
    again = ProbeLearner(model=None, device="cpu").load(tmp_path / "model", data)
    names = {"logits", "mc_logits"}
    for name in names:
        assert torch.equal(again.outputs(data, names=names)[name], predictor.outputs(data, names=names)[name])


def test_saving_replaces_the_older_model_and_leaves_nothing_beside_it(tmp_path: Path):
    _, _, predictor = fitted()
    predictor.save(tmp_path / "model")
    predictor.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_texts_without_an_encoder_are_refused():
    rows = SimpleNamespace(inputs=["some", "words"], classes=CLASSES, multilabel=False, fingerprint="t")
    with pytest.raises(DataError, match="numeric rows of one shape"):
        ProbeLearner(model=None, device="cpu").prepare(rows)


def test_a_penalty_of_zero_is_refused():
    with pytest.raises(ConfigError, match="l2"):
        ProbeLearner(model=None, device="cpu", l2=0.0)


# The adjusted head

TOPICS = {
    "billing": "invoice, payment, refund, charge",
    "access": "login, password, account",
    "shipping": "parcel, delivery, courier",
    "feedback": "idea, praise, suggestion",
}


def described(texts, labels, descriptions=TOPICS, **options):
    return Rows.from_inputs(texts, labels, classes=list(TOPICS), descriptions=descriptions, **options)


@pytest.fixture(scope="module")
def tickets():
    return material.tickets(120, seed=1)


def predicted(learner, rows, labeled=24):
    prepared = learner.prepare(rows)
    chosen = torch.arange(labeled)
    return learner.fit(prepared, chosen, rows.labels[chosen], seed=0), prepared


def test_descriptions_are_the_mean_of_the_prior_with_the_given_strength(tiny_bert, tickets):
    """With an overwhelming penalty the weights are the strength times the directions of the descriptions."""
    learner = ProbeLearner(str(tiny_bert), description_strength=7.0, l2=1e9, self_training=None, objective="log_loss")
    rows = described(*tickets)
    predictor, prepared = predicted(learner, rows)
    texts = learner.prepare(Rows.from_inputs([*TOPICS.values()], classes=list(TOPICS)))
    vectors = learner.untrained(texts).outputs(texts, names={"embeddings"}).embeddings
    pool = learner.untrained(prepared).outputs(prepared, names={"embeddings"}).embeddings
    directions = torch.nn.functional.normalize(vectors - pool.double().mean(0).float(), dim=1)
    torch.testing.assert_close(predictor.head.weight, 7.0 * directions, atol=1e-4, rtol=1e-4)
    assert predictor.training_notes == {
        "description_strength": 7.0,
        "text": "class descriptions at the given strength 7",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "readable class names"),
        ({"access": "logins"}, "class descriptions and readable names"),
        (TOPICS, "class descriptions"),
    ],
)
def test_note_says_what_the_descriptions_are(tiny_bert, tickets, given, said):
    chosen, fixed = (ProbeLearner(str(tiny_bert), description_strength=strength) for strength in (None, 5.0))
    rows = described(*tickets, descriptions=given)
    text = predicted(chosen, rows)[0].training_notes["text"]
    assert text.startswith((f"{said} at strength ", f"{said} not used (held-out"))
    assert predicted(fixed, rows)[0].training_notes["text"].startswith(f"{said} at the given strength 5; self-training")


def test_features_of_the_adjusted_head_have_norm_1(tiny_bert, tickets):
    predictor, prepared = predicted(ProbeLearner(str(tiny_bert)), described(*tickets))
    norms = predictor.outputs(prepared, names={"features"}).features.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize(("objective", "strength"), [(None, 0.5), ("macro_f1", 0.75), ("balanced_accuracy", 1.0)])
def test_objective_sets_how_much_of_the_class_shares_is_taken_out(tiny_bert, tickets, objective, strength):
    texts, labels = tickets
    rare = [(text, name) for text, name in zip(texts, labels, strict=True) if name != "feedback"][:60] + [
        (text, name) for text, name in zip(texts, labels, strict=True) if name == "feedback"
    ][:2]
    rows = described(*zip(*rare, strict=True))
    logits = []
    for aim in ("log_loss", objective):
        predictor, prepared = predicted(ProbeLearner(str(tiny_bert), objective=aim), rows, labeled=len(rows))
        logits.append(predictor.outputs(prepared).logits)
    counts = torch.bincount(rows.labels, minlength=4)
    torch.testing.assert_close(
        logits[1] - logits[0], logit_adjustment(counts.float(), strength).expand(len(rows), 4), atol=1e-4, rtol=1e-3
    )


def test_classes_are_assigned_as_often_as_the_labels_say_where_a_row_may_have_several(tiny_bert, tickets):
    texts, labels = tickets
    several = [[label, "feedback"] if place % 3 == 0 else [label] for place, label in enumerate(labels)]
    rows = described(texts, several, multilabel=True)
    predictor, prepared = predicted(ProbeLearner(str(tiny_bert)), rows, labeled=40)
    shares = (rows.labels[:40].sum(0) + 0.5) / 41
    decided = predictor.outputs(prepared).decisions.float().mean(0)
    torch.testing.assert_close(decided, shares, atol=0.6 / 120, rtol=0)
    plain, prepared = predicted(ProbeLearner(str(tiny_bert), head=None), rows, labeled=40)
    assert plain.outputs(prepared).decisions.float().mean(0).sum() < decided.sum()


@pytest.mark.parametrize("posterior", ["laplace", "bootstrap"])
def test_samples_are_shifted_with_the_head(tiny_bert, tickets, posterior):
    rows = described(*tickets)
    found = []
    for aim in ("log_loss", "balanced_accuracy"):
        learner = ProbeLearner(str(tiny_bert), objective=aim, posterior=posterior, samples=4)
        predictor, prepared = predicted(learner, rows)
        found.append(predictor.outputs(prepared, names={"logits", "mc_logits"}, seed=3))
    shift = found[1].logits - found[0].logits
    seen = predictor.head.posterior.seen.all(1) if posterior == "bootstrap" else torch.ones(4, dtype=torch.bool)
    assert bool(seen.any())
    change = (found[1].mc_logits - found[0].mc_logits)[:, seen]
    torch.testing.assert_close(change, shift[:, None].expand_as(change), atol=1e-4, rtol=1e-3)


def test_a_saved_head_predicts_the_same_and_remembers_its_choice(tiny_bert, tickets, tmp_path):
    learner, rows = ProbeLearner(str(tiny_bert)), described(*tickets)
    predictor, prepared = predicted(learner, rows)
    predictor.save(tmp_path / "model")
    loaded = learner.load(tmp_path / "model", prepared)
    assert torch.equal(loaded.outputs(prepared).logits, predictor.outputs(prepared).logits)
    assert loaded.training_notes == predictor.training_notes
    assert "held-out log-likelihood" in loaded.training_notes["text"]


def test_head_of_version_0_1_ignores_descriptions(tiny_bert, tickets):
    learner = ProbeLearner(str(tiny_bert), head=None)
    outputs = []
    for descriptions in (None, TOPICS):
        predictor, prepared = predicted(learner, described(*tickets, descriptions=descriptions))
        assert prepared.described is None
        assert not predictor.training_notes
        outputs.append(predictor.outputs(prepared).logits)
    assert torch.equal(*outputs)
    assert not learner.reads_descriptions
    assert not ProbeLearner(model=None).reads_descriptions
    assert ProbeLearner().reads_descriptions


def test_classes_with_codes_for_names_are_trained_without_descriptions(tiny_bert, tickets):
    texts, labels = tickets
    codes = {name: f"{place}" for place, name in enumerate(TOPICS)}
    rows = Rows.from_inputs(texts, [codes[label] for label in labels], classes=list(codes.values()))
    predictor, prepared = predicted(ProbeLearner(str(tiny_bert)), rows)
    assert prepared.described is None
    assert "description_strength" not in predictor.training_notes


# -- without labels ------------------------------------------------------------------------------------------------


def zero_shot(learner, prepared, data=None):
    names = {"zero_shot_logits"}
    return learner.untrained(prepared).outputs(data or prepared, names=names).zero_shot_logits


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("strength", [None, 7.0])
def test_zero_shot_logits_are_those_of_the_head_whose_labels_do_not_count(tiny_bert, tickets, strength, multilabel):
    """A penalty that overwhelms the labels leaves the prior mean, and a bias of 0."""
    texts, labels = tickets
    rows = described(texts, [[label] for label in labels] if multilabel else labels, multilabel=multilabel)
    learner = ProbeLearner(str(tiny_bert), description_strength=strength)
    fixed = ProbeLearner(str(tiny_bert), description_strength=strength or 10.0, l2=1e9, objective="log_loss")
    predictor, prepared = predicted(fixed, rows)
    assert float(predictor.head.bias.abs().max()) < 1e-4
    found = zero_shot(learner, learner.prepare(rows))
    torch.testing.assert_close(found, predictor.outputs(prepared).logits, atol=1e-3, rtol=1e-3)
    assert float(found.std()) > 0.1


def test_zero_shot_logits_do_not_depend_on_labels_or_on_the_other_rows_that_are_read(tiny_bert, tickets, tmp_path):
    learner, rows = ProbeLearner(str(tiny_bert)), described(*tickets)
    predictor, prepared = predicted(learner, rows)
    expected = zero_shot(learner, prepared)
    both = predictor.outputs(prepared, names={"zero_shot_logits", "logits"})
    assert torch.equal(both.zero_shot_logits, expected)
    assert not torch.equal(both.logits, expected)
    predictor.save(tmp_path / "model")
    loaded = learner.load(tmp_path / "model", prepared)
    assert torch.equal(loaded.outputs(prepared, names={"zero_shot_logits"}).zero_shot_logits, expected)
    few = learner.prepare(described(tickets[0][5:7], tickets[1][5:7]))
    torch.testing.assert_close(zero_shot(learner, prepared, few), expected[5:7], atol=1e-3, rtol=1e-3)  # padding


def test_a_class_without_a_description_has_zero_shot_logits_of_0(tiny_bert, tickets):
    texts, labels = tickets
    names = ["B2" if label == "billing" else label for label in labels]
    classes = ["B2", *(name for name in TOPICS if name != "billing")]
    topics = {name: text for name, text in TOPICS.items() if name != "billing"}
    learner = ProbeLearner(str(tiny_bert))
    some = Rows.from_inputs(texts, names, classes=classes, descriptions=topics)
    whole = zero_shot(learner, learner.prepare(described(*tickets)))
    order = [list(TOPICS).index(name) for name in classes[1:]]
    found = zero_shot(learner, learner.prepare(some))
    assert not bool(found[:, 0].any())
    torch.testing.assert_close(found[:, 1:], whole[:, order])


def test_zero_shot_logits_of_codes_are_refused_in_one_line(tiny_bert, tickets):
    texts, labels = tickets
    rows = Rows.from_inputs(texts, [f"{list(TOPICS).index(label)}" for label in labels])
    learner = ProbeLearner(str(tiny_bert))
    with pytest.raises(LearnerError, match=r"^zero_shot_logits needs .*\(data\.descriptions\)[^\n]*$"):
        zero_shot(learner, learner.prepare(rows))
    report = check_learner(ProbeLearner(str(tiny_bert)), rows)
    assert "lacks surprisal, zero_shot_logits" in report["provided names"].message


def test_only_a_head_that_reads_descriptions_has_zero_shot_logits(tiny_bert, tickets):
    assert "zero_shot_logits" in ProbeLearner().label_free & ProbeLearner().provides
    for learner in (ProbeLearner(head=None), ProbeLearner(description_strength=0), ProbeLearner(model=None)):
        assert "zero_shot_logits" not in learner.label_free | learner.provides
    learner = ProbeLearner(str(tiny_bert), head=None)
    with pytest.raises(NeedError, match="zero_shot_logits"):
        zero_shot(learner, learner.prepare(described(*tickets)))


def test_a_session_starts_with_likely_rows_of_every_class(tiny_bert, tickets):
    rows, learner = described(*tickets), ProbeLearner(str(tiny_bert))
    with Session(Splits(rows), learner, LikelyPerClass(), hide_labels=True) as session:
        logits = session.read(torch.arange(len(rows)), {"zero_shot_logits"}).zero_shot_logits
        chosen = session.ask(4)
    probs = logits.softmax(1)
    rarest = probs.mean(0).argmin()
    assert chosen[0] == probs[:, rarest].argmax()
    assert len(chosen.unique()) == 4


def test_a_session_centres_zero_shot_logits_of_another_part_like_those_of_the_pool(tiny_bert, tickets):
    texts, labels = tickets
    rows, learner = described(*tickets), ProbeLearner(str(tiny_bert))
    splits = Splits(rows, test=described(texts[:3], labels[:3]))
    with Session(splits, learner, LikelyPerClass(), hide_labels=True) as session:
        pool, test = (session.read(torch.arange(3), {"zero_shot_logits"}, part=part) for part in ("pool", "test"))
    torch.testing.assert_close(test.zero_shot_logits, pool.zero_shot_logits, atol=1e-3, rtol=1e-3)
