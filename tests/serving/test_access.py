import os
from math import inf, nan
from pathlib import Path

import pytest

from cellclf.errors import ServingError
from cellclf.serving.keys import KEYS_VARIABLE, Keys, read_keys
from cellclf.serving.models import sources_of
from cellclf.serving.rates import Rates
from cellclf.serving.server import Server, bind
from cellclf.serving.settings import Settings, is_loopback
from tests.serving.conftest import SHIPPED, picture, serving

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


def test_with_keys_only_their_holders_are_answered_but_for_health_and_pages() -> None:
    with serving(keys={"a": FIRST, "b": SECOND}) as running:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": f"Basic {FIRST}"}, {"authorization": "Bearer x"}, {"x-api-key": FIRST + "x"}):
            refused = running.post("/predict", content=picture(1), headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for headers in ({"x-api-key": FIRST}, {"authorization": f"Bearer {SECOND}"}, {"authorization": f"bearer {SECOND}"}):
            assert running.post("/predict", content=picture(1), headers=headers).status_code == 200
        closed = ("/v2", "/v2/models/x", "/models", "/metrics", "/no/such", "/v2/health/live/x")
        assert [running.client.get(path).status_code for path in closed] == [401] * len(closed)
        assert [running.client.get(path).status_code for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")] == [200] * 4


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\nlab {FIRST}  # until spring\n\n{SECOND}\n")
    keys = read_keys(file, {KEYS_VARIABLE: "third-key-0123456789, fourth-key-0123456789"})
    assert keys.holder(FIRST.encode()) == "lab"
    assert [keys.holder(key.encode()) for key in (SECOND, "third-key-0123456789", "fourth-key-0123456789")] == ["key2", "key3", "key4"]
    assert keys.holder(b"") is None
    assert not read_keys(None, {})


@pytest.mark.parametrize("given", [f"radiology-department {FIRST}", f"{FIRST} {SECOND}", f"{FIRST},a {SECOND}", f"{FIRST}\t{SECOND}"])
def test_a_name_in_the_environment_never_becomes_a_key(given: str) -> None:
    with pytest.raises(ServingError, match=r"separate keys by commas; `name key` is for --api-keys-file") as found:
        read_keys(None, {KEYS_VARIABLE: given})
    assert FIRST not in str(found.value)


def test_keys_of_the_environment_may_stand_on_lines() -> None:
    keys = read_keys(None, {KEYS_VARIABLE: f"{FIRST}\n{SECOND}\r\n"})
    assert [keys.holder(key.encode()) for key in (FIRST, SECOND)] == ["key1", "key2"]


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"a b {FIRST}\n", f"a {FIRST}\na {SECOND}\n"])
def test_a_keys_file_that_cannot_be_used_is_an_error_that_shows_no_key(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ServingError) as found:
        read_keys(tmp_path / "keys", {})
    assert FIRST not in str(found.value)
    assert SECOND not in str(found.value)


def test_a_missing_keys_file_is_an_error_never_an_open_door(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="cannot be read"):
        read_keys(tmp_path / "none", {})


def test_loopback_is_known() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"))


def test_beyond_loopback_keys_are_needed_unless_it_is_said_that_none_are() -> None:
    sources, settings = sources_of([str(SHIPPED)], device="cpu"), Settings(threads=1)
    for keys, no_auth, starts in ((Keys({}), False, False), (Keys({}), True, True), (Keys({"a": FIRST}), False, True)):
        with bind("0.0.0.0", 0) as listener:
            if starts:
                assert Server(sources, settings, listener=listener, keys=keys, no_auth=no_auth).address
            else:
                with pytest.raises(ServingError, match="--no-auth"):
                    Server(sources, settings, listener=listener, keys=keys, no_auth=no_auth)


def test_a_bucket_gives_its_burst_then_its_rate_and_debts_are_paid() -> None:
    now = 100.0
    rates = Rates(2.0, 4, lambda: now)
    assert rates.wait_s("a") == 0
    rates.charge("a", 4)
    assert rates.wait_s("a") == 0.5
    assert rates.wait_s("b") == 0
    now += 0.5
    assert rates.wait_s("a") == 0
    rates.charge("a", 11)
    assert rates.wait_s("a") == 5.5
    now += 1000
    rates.charge("a", 3)
    assert rates.wait_s("a") == 0
    rates.charge("a", 1)
    assert rates.wait_s("a") == 0.5


def test_the_number_of_buckets_is_bounded_and_no_rate_is_no_limit() -> None:
    rates = Rates(1.0, 1, lambda: 0.0)
    for number in range(20_000):
        rates.charge(str(number), 1)
    assert len(rates._buckets) == 10_000
    free = Rates(None, 1, lambda: 0.0)
    free.charge("a", 10**9)
    assert free.wait_s("a") == 0


def test_a_client_past_its_rate_is_429_and_another_key_is_not() -> None:
    with serving(keys={"a": FIRST, "b": SECOND}, rate=1e-6, burst=2) as running:
        told = [running.post("/predict", content=picture(1), headers={"x-api-key": FIRST}) for _ in range(3)]
        assert [answer.status_code for answer in told] == [200, 200, 429]
        assert int(told[-1].headers["retry-after"]) >= 1
        assert running.post("/predict", content=picture(1), headers={"x-api-key": SECOND}).status_code == 200
        assert running.client.get("/v2", headers={"x-api-key": FIRST}).status_code == 200


@pytest.mark.skipif(os.name == "nt", reason="sockets are reused otherwise there")
def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ServingError, match=rf"127\.0\.0\.1:{port} cannot be bound"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"max_pixels": -1}, {"max_wait_ms": -1.0}, {"rate": 0.0}, {"max_wait_ms": inf}, {"drain_s": inf}, {"rate": nan}]
)
def test_a_setting_that_cannot_be_is_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ServingError, match=next(iter(wrong))):
        Settings(**{"threads": 1, **wrong})  # type: ignore[arg-type]  # as a caller would get it wrong


def test_a_request_may_not_be_larger_than_all_requests_together() -> None:
    with pytest.raises(ServingError, match=r"400 MiB .--max-body-mb., and all requests together hold at most 256 MiB"):
        Settings(threads=1, max_body_bytes=400 << 20)
