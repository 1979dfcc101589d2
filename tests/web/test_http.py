"""The HTTP control plane: what each answer means, and what never happens whatever is sent."""

import http.client
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.orders import GateClosed, GateOpened
from tests.web.fakes import PATIENCE_S, TOKEN, intent

pytestmark = pytest.mark.integration
AUTH = {"authorization": f"Bearer {TOKEN}"}


def post(running, body, headers=AUTH, path="/v1/intents"):
    return running.http.post(path, content=body if isinstance(body, bytes) else json.dumps(body), headers=headers)


def assert_refusal(response):
    """Every refusal is JSON with a code, a field and one sentence, and gives nothing away."""
    assert response.headers["content-type"] == "application/json"
    said = response.json()
    assert said.keys() == {"code", "field", "sentence"}
    assert said["sentence"]
    assert "\n" not in said["sentence"]
    for secret in ("Traceback", "File \"", TOKEN, "<html"):
        assert secret not in response.text


# -- intents ---------------------------------------------------------------------------------------------------


def test_an_accepted_intent_is_201_and_the_same_again_200_with_the_same_bracket(running):
    first, again = post(running, intent(signal_id="twice")), post(running, intent(signal_id="twice"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["bracket_id"] == again.json()["bracket_id"]
    assert first.headers["location"] == f"/v1/brackets/{first.json()['bracket_id']}"


@pytest.mark.parametrize(
    ("name", "body", "status", "field"),
    [
        ("not json", b"{", 400, "intent"),
        ("empty", b"", 400, "intent"),
        ("not utf-8", b"\xff\xfe", 400, "intent"),
        ("a list", [], 400, "intent"),
        ("nothing in it", {}, 400, "signal_id"),
        ("a missing field", intent(urgency=...), 400, "urgency"),
        ("a field too many", intent(colour="red"), 400, "colour"),
        ("a bad word", intent(side="HOLD"), 400, "side"),
        ("no number", intent(quantity="many"), 400, "quantity"),
        ("NaN", intent(limit_price="NaN"), 400, "limit_price"),
        ("infinity", intent(limit_price="1e999999999"), 400, "limit_price"),
        ("below zero", intent(quantity="-1"), 400, "quantity"),
        ("an unknown strategy", intent(strategy="Moonshot"), 400, "strategy"),
        ("a stop above the entry", intent(exits=[{"stop": {"price": "105"}}]), 400, None),
        ("a duplicate key", b'{"signal_id": "a", "signal_id": "b"}', 400, "signal_id"),
        ("denied by risk", intent(signal_id="d", instrument="GOOGL"), 422, None),
    ],
)  # fmt: skip
def test_a_bad_intent_is_refused_in_one_sentence(running, name, body, status, field):
    response = post(running, body)
    assert_refusal(response)
    assert response.status_code == status, response.text
    if field is not None:
        assert response.json()["field"] == field
        assert response.json()["sentence"].startswith(field)


def test_the_same_signal_with_other_content_is_a_conflict(running):
    post(running, intent(signal_id="reused"))
    response = post(running, intent(signal_id="reused", limit_price="99"))
    assert_refusal(response)
    assert response.status_code == 409


# -- verbs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel-entry", "cancel", "flatten", "detach"])
def test_a_verb_is_passed_on(running, verb):
    response = post(running, b"", path=f"/v1/brackets/B1/{verb}")
    assert response.status_code == 200
    assert response.json()["bracket_id"] == "B1"


def test_modify_passes_its_changes_on(running):
    response = running.http.patch("/v1/brackets/B1", content=b'{"target": "111", "tranche": 2}', headers=AUTH)
    assert response.status_code == 200
    assert response.json()["sentence"] == "ModifyBracket"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"target": "high"}', b'{"target": -1}', b'{"colour": 1}', b'{"tranche": 1}']
)
def test_a_bad_modify_is_refused_by_name(running, body):
    response = running.http.patch("/v1/brackets/B1", content=body, headers=AUTH)
    assert_refusal(response)
    assert response.status_code == 400


def test_a_verb_that_does_not_apply_is_409_and_an_unknown_bracket_404(running):
    refused = running.http.patch("/v1/brackets/B1", content=b'{"quantity": 5}', headers=AUTH)
    missing = post(running, b"", path="/v1/brackets/B404/flatten")
    assert (refused.status_code, missing.status_code) == (409, 404)
    assert_refusal(refused)
    assert_refusal(missing)


def test_an_unknown_verb_and_a_bad_name_are_refused(running):
    assert post(running, b"", path="/v1/brackets/B1/explode").status_code == 404
    assert post(running, b"", path="/v1/brackets/B%201/flatten").status_code == 400
    bad_key = post(running, b"", {**AUTH, "idempotency-key": "x y"}, "/v1/brackets/B1/flatten")
    assert bad_key.status_code == 400


# -- reading ---------------------------------------------------------------------------------------------------


def test_reads_need_no_token(running):
    running.reader.stories["B7"] = {"bracket_id": "B7", "orders": [{"orderId": "B7.entry"}]}
    assert running.http.get("/v1/brackets").json() == [{"bracket_id": "B7"}]
    assert running.http.get("/v1/brackets/B7").json()["orders"] == [{"orderId": "B7.entry"}]
    assert running.http.get("/v1/orders").json() == [{"orderId": "B7.entry"}]
    assert running.http.get("/v1/positions").json() == []


def test_a_bracket_that_is_not_there_is_404(running):
    response = running.http.get("/v1/brackets/B999")
    assert response.status_code == 404
    assert_refusal(response)


@pytest.mark.parametrize("query", ["limit=0", "limit=5000", "limit=x", "before=%00", "phase=a%20b"])
def test_a_bad_query_is_refused(running, query):
    response = running.http.get(f"/v1/brackets?{query}")
    assert response.status_code == 400
    assert_refusal(response)


def test_a_database_that_cannot_be_read_is_503(running, monkeypatch):
    from storage.database import StorageError

    monkeypatch.setattr(running.reader, "problem", StorageError("secret details"))
    response = running.http.get("/v1/brackets/B1")
    assert response.status_code == 503
    assert "secret" not in response.text
    assert_refusal(response)


def test_a_fault_is_500_without_a_traceback(running, monkeypatch):
    monkeypatch.setattr(running.reader, "problem", RuntimeError("secret details"))
    response = running.http.get("/v1/brackets/B1")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert_refusal(response)


# -- service ---------------------------------------------------------------------------------------------------


def test_ready_follows_the_gate(running):
    running.engine.say("control", GateOpened(ts_ns=1, client_id=1))
    running.wait(lambda: running.http.get("/readyz").status_code == 200)
    running.engine.say("control", GateClosed(reason="the gateway hung up", ts_ns=1))
    running.wait(lambda: running.http.get("/readyz").status_code == 503)
    response = running.http.get("/readyz")
    assert_refusal(response)
    assert response.json()["sentence"] == "the gateway hung up"
    assert running.http.get("/livez").json() == {"live": True}


def test_status_says_what_every_service_says(running):
    running.wait(lambda: running.http.get("/v1/status").json()["silent"] == [])
    assert running.http.get("/v1/status").json()["services"].keys() >= {"broker", "risk", "control"}


def test_the_schema_names_every_route_and_the_fields_of_an_intent(running):
    document = running.http.get("/schema").json()
    assert document["openapi"].startswith("3.")
    assert {
        "/v1/intents", "/v1/brackets", "/v1/brackets/{bracket_id}", "/v1/orders", "/v1/positions", "/livez", "/readyz"
    } <= document["paths"].keys()  # fmt: skip
    assert set(intent()) <= document["components"]["schemas"]["Intent"]["properties"].keys()
    body = document["paths"]["/v1/intents"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Intent"}
    assert document["paths"]["/v1/intents"]["post"]["security"] == [{"token": []}]


# -- who may ask -----------------------------------------------------------------------------------------------


@pytest.mark.compliance
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": TOKEN}, {"authorization": "Bearer"}, {"authorization": f"Basic {TOKEN}"},
     {"authorization": f"Bearer {TOKEN}x"}, {"authorization": f"Bearer {TOKEN[:-1]}"}],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/intents"), ("PATCH", "/v1/brackets/B1"), ("POST", "/v1/brackets/B1/flatten"), ("PUT", "/livez")],
)
def test_nothing_changes_without_the_token(running, headers, method, path):
    response = running.http.request(method, path, content=json.dumps(intent(signal_id="t")), headers=headers)
    assert response.status_code == 401
    assert_refusal(response)


@pytest.mark.compliance
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1:8765", "0.0.0.0"])
def test_another_host_name_is_refused(running, host):
    for path in ("/v1/orders", "/readyz", "/schema"):
        response = running.http.get(path, headers={"host": host})
        assert response.status_code == 403
        assert_refusal(response)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8765", "[::1]:9", "LOCALHOST"])
def test_loopback_names_are_served(running, host):
    assert running.http.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.compliance
def test_a_page_from_elsewhere_is_refused(running):
    response = running.http.get("/v1/orders", headers={"origin": "https://evil.example"})
    assert response.status_code == 403
    assert running.http.get("/v1/orders", headers={"origin": "http://localhost:3000"}).status_code == 200


def test_a_large_body_is_refused_however_it_is_sent(running):
    def pieces():
        for _ in range(100):
            yield b"x" * 1_000

    told, chunked = post(running, b"x" * 70_000), running.http.post("/v1/intents", content=pieces(), headers=AUTH)
    assert (told.status_code, chunked.status_code) == (413, 413)
    assert_refusal(told)
    assert_refusal(chunked)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("GET", "/docs"), ("PUT", "/v1/orders"), ("GET", "/")])
def test_wrong_paths_and_methods_are_told_in_json(running, method, path):
    response = running.http.request(method, path, headers=AUTH)
    assert response.status_code in (404, 405)
    assert_refusal(response)


# -- hostile ---------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(
    ["NaN", "1e999999999", "-0", "0x10", "BUY", "100", "\x00", "\ud800", "__proto__", "9" * 400]
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SPOILED = st.builds(
    lambda field, value: json.dumps({**intent(), field: value}).encode(), st.sampled_from(sorted(intent())), JSON
)
PAYLOADS = st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode()), SPOILED)


@pytest.mark.compliance
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PAYLOADS, min_size=5, max_size=5))
def test_hostile_payloads_are_refused_and_nothing_falls(running, payloads):
    connection = http.client.HTTPConnection("127.0.0.1", running.web.port, timeout=PATIENCE_S)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for payload in payloads:
        connection.request("POST", "/v1/intents", payload, headers)
        response = connection.getresponse()
        body = response.read()
        # A spoiled field may have been given a value that is good.
        assert response.status in (200, 201, 400, 409, 422), (payload, body)
        if response.status >= 400:
            assert json.loads(body).keys() == {"code", "field", "sentence"}
    connection.close()


# -- an engine that is not there -------------------------------------------------------------------------------


def test_without_an_engine_everything_is_503_and_comes_back_with_it(own):
    own.engine.stop()
    own.wait(lambda: not own.web.link.connected)
    for response in (post(own, intent()), post(own, b"", path="/v1/brackets/B1/flatten"), own.http.get("/v1/status"),
                     own.http.get("/readyz")):  # fmt: skip
        assert response.status_code == 503
        assert_refusal(response)
    assert own.http.get("/v1/orders").status_code == 200
    from tests.web.fakes import EngineThread

    own.engine = EngineThread(own.engine.settings)
    own.wait(lambda: own.web.link.connected)
    assert post(own, intent()).status_code == 201
    own.engine.stop()
