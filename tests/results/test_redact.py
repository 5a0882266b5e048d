"""Secrets in texts: those of this process in any spelling, and what looks like anybody's."""

import base64
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from omniperf.results import redact
from omniperf.results.journal import Journal
from omniperf.results.redact import clean, forget, keyless, known, learn
from omniperf.results.store import append_line, read_lines, write_whole

KEY = 'sk-"k/9+Q=7 bX4w2"kLmN0'


@pytest.fixture(autouse=True)
def learned() -> None:
    learn(KEY)


SPELLINGS = {
    "plain": KEY,
    "in JSON": json.dumps(KEY)[1:-1],
    "in a URL": quote(KEY, safe=""),
    "in a form": quote_plus(KEY),
    "every byte in a URL": "".join(f"%{byte:02x}" for byte in KEY.encode()),
    "hex": KEY.encode().hex(),
    "hex in capitals": KEY.encode().hex().upper(),
    "back to front": KEY[::-1],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_known_secret_is_taken_out_however_it_is_spelt(spelling: str) -> None:
    assert known(f"<{SPELLINGS[spelling]}>") == "<***>"


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "Bearer "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_known_secret_is_taken_out_of_base64_wherever_it_begins(before: str, encode: object) -> None:
    encoded = encode(f"{before}{KEY}, and more".encode()).decode()  # type: ignore[operator]
    left = known(encoded)
    assert "***" in left
    kept = left.split("***")
    for part in kept:  # what is left of either side holds at most the edge of the key
        assert KEY[2:-2] not in base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_").decode("latin-1")
    assert len(encoded) - sum(map(len, kept)) >= len(KEY) * 8 // 6 - 2


def test_long_spellings_among_hundreds_are_found_wherever_they_stand_and_whatever_is_forgotten() -> None:
    mine = [f"{number:04d}/{'k' * number}+{'0123456789abcdefghijkl' * 2}"[: 24 + number] for number in range(20)]
    others = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
    for secret in mine + others:
        learn(secret)
    for secret in others:
        forget(secret)
    try:
        for secret in mine:  # of 24 characters to 43, so that some spellings are just long enough
            for spelt in (secret, secret[::-1], secret.encode().hex(), quote(secret, safe="")):
                for before in range(60):
                    assert known("." * before + spelt) == "." * before + "***"
        assert known(" ".join(others)) == " ".join(others)
    finally:
        for secret in mine:
            forget(secret)
    assert known(" ".join(mine)) == " ".join(mine)
    assert known(f"<{KEY}{KEY.encode().hex()}>") == "<******>"


LOOKS_LIKE_ONE = {
    "https://me:hunter2@host.example/simple": "https://***@host.example/simple",
    "git+https://0123456789abcdef@host.example/x.git": "git+https://***@host.example/x.git",
    "Authorization: Bearer abc.def-ghi_123": "Authorization: Bearer ***",
    '{"authorization": "Basic dXNlcjpwYXNz"}': '{"authorization": "Basic ***"}',
    '{\\"X-Api-Key\\": \\"0123456789abc\\"}': '{\\"X-Api-Key\\": \\"***\\"}',
    "invalid key sk-ant-api03-AbCdEf0123456789": "invalid key ***",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345": "***",
    "AKIAIOSFODNN7EXAMPLE": "***",
    "ASIAIOSFODNN7EXAMPLE.": "***.",
    "glpat-0123456789abcdefABCD": "***",
    "mysql://me:hunter2@host.example/db": "mysql://***@host.example/db",
    "redis://:hunter2@host:6379/0": "redis://***@host:6379/0",
    "postgresql+psycopg://me:a/b#c?d@host:5432/db": "postgresql+psycopg://***@host:5432/db",
    "https://me:p12/34#56@[::1]/": "https://***@[::1]/",
    "x_api_key=0123456789abcdef": "x_api_key=***",
    "api-key: 0123-4567-89ab": "api-key: ***",
    "'api_key': 'abcdefghijkl0'": "'api_key': '***'",
    "api_key=abcdef0123456789.ghijkl": "api_key=***",
    "postgres://user:pass@word@host/db": "postgres://***@host/db",
    "https://user:pa/ss@word@host:80/a@b": "https://***@host:80/a@b",
    "https://me@corp.example:hunter2@host/x": "https://***@host/x",
    "https://host/a?user=me&password=hunter2&x=1": "https://host/a?user=me&password=***&x=1",
    "jdbc:x://host/db?PWD=hunter2": "jdbc:x://host/db?PWD=***",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "AWS_SECRET_ACCESS_KEY=***",
    '"aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"': '"aws_secret_access_key": "***"',
    "gsk_" + "aB3" * 17: "***",
    "npm_" + "aB3" * 12: "***",
    "pypi-AgEIcHlwaS5vcmc" + "aB3_-" * 12: "***",
    "xai-" + "aB3" * 26: "***",
    "a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27 b": "a *** b",
    "sk-proj-AbCdEfGhIjKlMnOp-0123456789ab_cd-e": "***",
    "sk-or-v1-0123456789abcdef0123456789abcdef": "***",
    "use bearer 0123456789abcdef now": "use bearer *** now",
}


@pytest.mark.parametrize("text", LOOKS_LIKE_ONE)
def test_what_looks_like_a_secret_is_taken_out_of_what_is_shown_and_not_of_exact_bytes(text: str) -> None:
    assert clean(text) == LOOKS_LIKE_ONE[text]
    assert known(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "risk-free-and-very-long-name-0123456789 task-sk-learn",
        "git@github.com:a/b.git ssh://git@host/a https://host/@user/x see https://host, or me@host",
        "def authorization(token: str) -> Header: bearer of news, basic implementation",
        "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "asia0123456789abcdef asiatic_languages01 glpat-tern x_api_keys = [1]",
        "index 0123456789abcdef0123456789abcdef01234567..89abcdef0123456789abcdef0123456789abcdef 100644",
        'client = Client(api_key=settings.api_key, api_key=os.environ["KEY_0123456789"], api_key: str | None = None)',
        'auth = {"x-api-key": self.api_key_of(x), "x-api-key": settings.api_key, "api-key": self.api_key}',
        "api_key = api_key_from_the_environment  # api-key: see the documentation",
        "http://localhost:8000/v1/@me http://host:80#a@b http://[::1]:8000/x@y see a://b:c and me@host",
        "npm:@scope/name@1.2.3 file:///tmp/a@b https://host/a:b@c https://host:443/x:y@z",
        "def f(x): the bearer of_the_message_callback, sk-learn-contrib-package-v2-tools",
        "Client(api_key=settings.get_v1_api_key(), api_key=get_key_of_v1(x))",
        "aws_secret_access_key=settings.secret_access_key, secret_access_key: str, npm_config_registry, xai-tools",
        "gsk_ npm_run_script_of_the_package_2 pypi-publish-action-v1-release eyJ.eyJ.x Keyed.eyJa.b password=x",
        "d = {'https://a': 1, 'b:c@d': 2}  # x://y z:w@v",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_words_and_numbers_are_no_secrets() -> None:
    for placeholder in ("EMPTY", "x", "1234567890123456", ""):
        learn(placeholder)
    assert clean("EMPTY x 1234567890123456") == "EMPTY x 1234567890123456"


def test_every_writer_takes_secrets_out_and_leaves_json_whole(tmp_path: Path) -> None:
    record = {"text": f"a {KEY}", "nested": {"list": [KEY, 1], "url": "https://me:hunter2@host/"}, "number": 2}
    wanted = {"text": "a ***", "nested": {"list": ["***", 1], "url": "https://***@host/"}, "number": 2}
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write("step", **record)
    (line,) = read_lines(tmp_path / "journal.jsonl")
    assert {name: line[name] for name in wanted} == wanted
    append_line(tmp_path / "lines.jsonl", record)
    assert list(read_lines(tmp_path / "lines.jsonl")) == [wanted]
    write_whole(tmp_path / "result.json", json.dumps(record).encode())
    assert json.loads((tmp_path / "result.json").read_bytes()) == wanted


def test_exact_bytes_lose_known_secrets_alone(tmp_path: Path) -> None:
    data = f"\xff\0 https://me:hunter2@host {KEY}\r\n".encode("latin-1")
    write_whole(tmp_path / "model_patch.diff", data, exact=True)
    assert (tmp_path / "model_patch.diff").read_bytes() == b"\xff\0 https://me:hunter2@host ***\r\n"


def test_the_environment_s_own_secrets_are_known_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef-some")
    monkeypatch.setenv("DB_PASSWORD", "password")  # a word of honest texts
    monkeypatch.setenv("KEY_API_TOKEN", "/run/secrets/token-file")
    monkeypatch.setenv("HARMLESS", f"--key={KEY}")
    redact._known.cache_clear()
    try:
        assert clean("0123456789abcdef-some password /run/secrets/token-file") == "*** password /run/secrets/token-file"
        learn(KEY)
        assert not {"SOME_API_KEY", "DB_PASSWORD", "KEY_API_TOKEN", "HARMLESS"} & set(keyless())
        assert "PATH" in keyless()
    finally:
        redact._known.cache_clear()


def test_a_process_with_a_key_leaves_no_core_and_shows_nobody_its_memory() -> None:
    asked = "import ctypes; from omniperf.results.redact import learn; learn('sk-0123456789'); "
    told = subprocess.run(
        (sys.executable, "-c", asked + "print(ctypes.CDLL(None).prctl(3))"), capture_output=True, text=True
    )
    assert told.stdout == "0\n", told.stderr


@pytest.mark.parametrize(
    "begun",
    ["sk-", "sk-a", "://", "://a:", "://a:b/", "x://a:b#", "http://", "ghp_", "glpat-", "asia", "api_key=", "api-key:a", "bearer ",
     "://a@b:c@", "://:@", "eyJ", "eyJaaaaaaaa.", "sk-a-", "gsk_", "xai-", "?pwd=", "&password=", "secret_access_key=",
     "api_key=a.b", "api_key=a."],
)  # fmt: skip
def test_beginnings_of_secrets_take_no_longer_than_they_are(begun: str) -> None:
    started = time.process_time()
    clean(begun * (300_000 // len(begun)))
    clean(begun + "a" * 300_000)
    assert time.process_time() - started < 20
