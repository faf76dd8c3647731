"""Answers of a local model depend on the request and its sample number alone."""

from dataclasses import replace

import pytest
import speaking
import torch

from dal.llm.clients.client import Request
from dal.llm.local_models.generation import closing, opening, seed_of
from dal.llm.local_models.local_client import LocalClient


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = speaking.write_tiny_llama(tmp_path_factory.mktemp("llama") / "model")
    return LocalClient(str(folder), device="cpu", batch=4)


def asked(**options):
    return [Request(f"text {'long ' * (n % 3)}{n}", "You sort texts.", max_tokens=12, **options) for n in range(7)]


def test_greedy_answers_are_those_of_generate(client):
    model = client.loaded()
    for request, reply in zip(asked(), client.complete(asked()), strict=True):
        ids = torch.tensor([model.tokens(request)])
        whole = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
        assert reply.text == model.text(whole[0, ids.shape[1] :])
        assert reply.input_tokens == ids.shape[1]


def test_neither_neighbours_nor_order_nor_batches_change_a_draw(client):
    requests = [replace(each, sample=sample) for each in asked(temperature=1.0) for sample in range(3)]
    whole = [reply.text for reply in client.complete(requests)]
    assert [reply.text for reply in client.complete(requests[::-1])] == whole[::-1]
    assert [client.complete([request])[0].text for request in requests[:5]] == whole[:5]
    assert [reply.text for reply in replace(client, batch=21).complete(requests)] == whole


def test_another_sample_number_is_another_draw_and_the_same_one_the_same(client):
    one, other, again = (asked(temperature=1.0, sample=n) for n in (1, 2, 1))
    texts = [[reply.text for reply in client.complete(each)] for each in (one, other, again)]
    assert texts[0] == texts[2]
    assert texts[0] != texts[1]


def test_draws_follow_the_distribution_at_the_temperature(client):
    request = Request("text", max_tokens=1, temperature=0.5)
    model = client.loaded()
    probs = (model.read([model.tokens(request)]).log_probs[0] / 0.5).softmax(-1)
    said = model.text([int(probs.argmax())])
    expected = sum(float(p) for token, p in enumerate(probs) if model.text([token]) == said)  # bytes may look alike
    drawn = client.complete([replace(request, sample=n) for n in range(400)])
    share = sum(reply.text == said for reply in drawn) / 400
    assert abs(share - expected) < 4 * (0.25 / 400) ** 0.5


def test_the_global_generator_is_left_alone(client):
    before = torch.get_rng_state()
    client.complete(asked(temperature=1.0))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_part_of_a_request_seeds_it():
    request = Request("a", "b", {"c": 1}, 0.5, 10, 0)
    changes = [
        {"prompt": "x"},
        {"system": "x"},
        {"schema": None},
        {"temperature": 0.6},
        {"max_tokens": 9},
        {"sample": 1},
    ]
    assert len({seed_of(request), *(seed_of(replace(request, **change)) for change in changes)}) == 7


ONE = {"type": "object", "properties": {"label": {"type": "string"}}}
TWO = {"type": "object", "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}}}
MANY = {"type": "object", "properties": {"answers": {"type": "array", "items": TWO}}}


@pytest.mark.parametrize(
    ("schema", "begun"),
    [
        (None, ""),
        (ONE, '{"label": "'),
        (MANY, '{"answers": [{"label": "'),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, '{"n":'),
        ({"type": "object", "properties": {}}, ""),
        ({"anyOf": [ONE, TWO]}, ""),
    ],
)
def test_a_structured_answer_is_begun_up_to_where_there_is_a_choice(schema, begun):
    assert opening(schema) == begun


@pytest.mark.parametrize(
    ("text", "schema", "lacks"),
    [
        ('{"label": "a', ONE, None),
        ('{"label": "a"', ONE, "}"),
        ('{"label": "a",', ONE, "}"),
        ('{"label": "a,"', ONE, "}"),
        ('so: {"label": {}} and', ONE, ""),
        ('{"label": "a"', TWO, None),
        ('{"label": "a", "confidence": 75', TWO, "}"),
        ('{"answers": [{"label": "a", "confidence": 75}', MANY, None),
        ('{"answers": [{"label": "a", "confidence": 75}]', MANY, "}"),
        ('{"other": 1', ONE, None),
        ('{"other": 1}', ONE, ""),
        ("[1]", ONE, ""),
        ("no", ONE, None),
        ("}", ONE, None),
        ("[" * 100_000, ONE, None),
    ],
)
def test_a_structured_answer_is_whole_once_it_has_all_properties(text, schema, lacks):
    assert closing(text, schema) == lacks


def test_a_request_with_a_schema_is_answered_from_its_opening_on(client):
    request = Request("text", schema=ONE, max_tokens=6)
    reply, free = client.complete([request, replace(request, schema=None)])
    model = client.loaded()
    tokens = [*model.tokens(request), *model.label_tokens('{"label": "')]
    ids = torch.tensor([tokens])
    whole = model.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=0
    )
    assert reply.text == '{"label": "' + model.text(whole[0, len(tokens) :])
    assert not free.text.startswith("{")


def test_an_answer_says_whether_it_was_cut_off(client):
    replies = client.complete(asked())
    assert all(reply.truncated == (reply.output_tokens == 12) for reply in replies)
    assert client.complete([]) == []
