"""Keys, and the way to the server: told apart, explained when refused, never shown; TLS, sub-paths, redirects."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from studio_front import Authority, found_authority, front

from annotate.errors import StudioRefused, StudioUnavailable
from annotate.refusals import explain
from annotate.studio import Studio
from annotate.tokens import hide, read_token
from annotate.wire import greet

if TYPE_CHECKING:
    from annotate.conftest import Workplace
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # inside the SDK


def jwt(**claims: object) -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps(claims), "a signature of thirty-two byte"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def test_the_kinds_of_keys_are_told_apart_without_a_server() -> None:
    personal = read_token(jwt(token_type="refresh", exp=1893456000))
    assert personal.kind == "personal access token"
    assert f"{personal.expires_at:%F}" == "2030-01-01"
    assert read_token(jwt(token_type="access", exp=1893456000)).kind == "access token"
    assert read_token("0123456789abcdef" * 2 + "01234567").kind == "legacy token"
    assert read_token("hunter2").kind == "unknown token"
    assert read_token("eyJub3QgYSBqd3Q.at.all").kind == "unknown token"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "No usable key"),
        ("two words", "No usable key"),
        ("sch\u00f6n", "No usable key"),
        ('"abc"', "without them"),
        (jwt(token_type="refresh", exp=1893456000).rpartition(".")[0], "shows the whole one only once"),
    ],
)
def test_what_cannot_be_a_key_is_refused_with_the_remedy(key: str, said: str) -> None:
    with pytest.raises(StudioRefused, match=said) as caught:
        read_token(key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (jwt(token_type="refresh", exp=1893456000), "ends on 2030-01-01 00:00 UTC"),
        (jwt(token_type="access", exp=1893456000), "five minutes"),
        ("f" * 40, "another server's"),
        ("hunter2", "copied as a whole"),
    ],
)
def test_a_refused_key_is_explained_by_its_kind(key: str, said: str) -> None:
    error = explain("reading", "http://host", 401, {"detail": "Invalid token."}, read_token(key))
    assert said in str(error)


@pytest.mark.parametrize("key", [jwt(token_type="refresh", exp=1893456000), "a+b/c" * 8, "f" * 40])
def test_what_is_told_never_holds_a_key_however_it_is_spelled(key: str) -> None:
    spellings = [key, quote(key, safe=""), base64.b64encode(key.encode()).decode()]
    spellings.append(base64.urlsafe_b64encode(key.encode()).decode())
    wholes = [base64.b64encode(f"{'Token'[:n]} {key} and more".encode()).decode() for n in (3, 4, 5)]
    told = hide(f"bad header: Token {' '.join([*spellings, *wholes])}", key)
    for spelling in [*spellings, key.rpartition(".")[2]]:
        assert spelling[:-4] not in told
    assert not [whole for whole in wholes if whole[12:-16] in told]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return found_authority(tmp_path_factory.mktemp("authority"))


def test_a_certificate_of_an_unknown_authority_is_refused_with_the_remedy(authority: Authority) -> None:
    with front("http://127.0.0.1:9", authority=authority) as proxy:
        for call in (lambda: greet(proxy.url), lambda: Studio(proxy.url, "f" * 40).project(1)):
            with pytest.raises(StudioRefused, match="ca_file") as caught:
                call()
            assert "unable to get local issuer certificate" in str(caught.value)


def test_a_certificate_for_another_name_is_refused_with_the_remedy(tmp_path: Path) -> None:
    other = found_authority(tmp_path, name="DNS:labels.example")
    with (
        front("http://127.0.0.1:9", authority=other) as proxy,
        pytest.raises(StudioRefused, match="name for which"),
    ):
        greet(proxy.url, ca_file=other.ca)


def test_a_file_without_certificates_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    with pytest.raises(StudioRefused, match=r"empty\.pem holds no certificates .*PEM"):
        Studio("https://127.0.0.1:9", "f" * 40, ca_file=empty)
    empty.write_text("nothing")
    with pytest.raises(StudioRefused, match=r"empty\.pem holds no certificates"):
        Studio("https://127.0.0.1:9", "f" * 40, ca_file=empty)
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    with pytest.raises(StudioRefused, match="SSL_CERT_FILE"):
        greet("https://127.0.0.1:9")


def test_tls_to_a_port_that_has_none_is_told() -> None:
    with front("http://127.0.0.1:9") as proxy, pytest.raises(StudioRefused, match="begins with http://"):
        greet(proxy.url.replace("http:", "https:"))


def test_an_address_that_sends_us_on_is_told_before_a_post_is_lost() -> None:
    with front("http://127.0.0.1:9", moved_to="https://labels.example/studio") as proxy:
        studio = Studio(proxy.url, "f" * 40)
        with pytest.raises(StudioRefused, match=r"on to https://labels\.example/studio\. Give that"):
            studio.import_predictions(1, [])
        assert [seen.split()[0] for seen in proxy.seen] == ["POST"]


@pytest.mark.studio
@pytest.mark.parametrize("kind", ["legacy token", "personal access token"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_tls_of_a_private_authority_and_a_sub_path_lead_to_the_same_project(
    place: Workplace,
    studio_server: ThrowawayServer,
    personal_token: str,
    authority: Authority,
    kind: str,
    slash: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = studio_server.api_key if kind == "legacy token" else personal_token
    with front(studio_server.url, "/label-studio", authority) as proxy:
        ca_file: Path | None = authority.ca
        if slash:  # the other way to name the authority
            ca_file = None
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        assert greet(proxy.url + slash, ca_file=ca_file).version.startswith("1.")
        with Studio(proxy.url + slash, key, ca_file=ca_file) as studio:
            assert studio.about().token.kind == kind
            assert studio.project(place.project_id).n_tasks == 12
            task_id = place.tasks[0]
            annotation = studio.submit(task_id, place.interface.write({"Edema": 1.0, "Effusion": 0.0}))
            assert annotation
        with pytest.raises(StudioUnavailable, match="sub-path included"):
            greet(proxy.url.removesuffix("/label-studio"), ca_file=ca_file)


@pytest.mark.studio
def test_a_session_that_ends_early_is_renewed_whatever_our_clock_says(
    place: Workplace, studio_server: ThrowawayServer, personal_token: str
) -> None:
    studio = Studio(studio_server.url, personal_token)
    studio.about()
    tokens = studio._sdk._client_wrapper._tokens_client
    ended = (
        tokens._access_token[:-6] + "AAAAAA"
    )  # as good as expired: the server refuses it, the SDK would keep it
    tokens._access_token = ended
    assert studio.project(place.project_id).n_tasks == 12
    assert tokens._access_token != ended


@pytest.mark.studio
def test_a_personal_access_token_revoked_meanwhile_is_explained_and_shown_nowhere(
    studio_server: ThrowawayServer, personal_token: str
) -> None:
    studio = Studio(studio_server.url, personal_token)
    studio.about()
    mine = {"Authorization": f"Token {studio_server.api_key}"}
    httpx.post(f"{studio_server.url}/api/token/blacklist/", headers=mine, json={"refresh": personal_token})
    studio._sdk._client_wrapper._tokens_client._access_token = None  # five minutes later
    with pytest.raises(StudioRefused, match="has expired, was revoked") as caught:
        studio.about()
    told = "".join(traceback.format_exception(caught.value))
    assert not [part for part in personal_token.split(".")[1:] if part in told]


@pytest.mark.studio
def test_a_legacy_token_that_was_switched_off_is_explained(
    studio_server: ThrowawayServer, personal_token: str
) -> None:
    boss = {"Authorization": f"Token {studio_server.api_key}"}
    settings = f"{studio_server.url}/api/jwt/settings"
    httpx.post(settings, headers=boss, json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": False})
    try:
        with pytest.raises(StudioRefused, match="switched off"):
            Studio(studio_server.url, studio_server.api_key).about()
        studio = Studio(studio_server.url, personal_token)
        assert studio.legacy_tokens_enabled() is False
    finally:
        access = httpx.post(
            f"{studio_server.url}/api/token/refresh/", json={"refresh": personal_token}
        ).json()["access"]
        httpx.post(
            settings,
            headers={"Authorization": f"Bearer {access}"},
            json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True},
        ).raise_for_status()
    assert Studio(studio_server.url, studio_server.api_key).legacy_tokens_enabled() is True
