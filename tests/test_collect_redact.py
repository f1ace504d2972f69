"""Secrets do not get into captures, and what is none stays readable."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from collectors.redact import HIDDEN, is_secret, redacted, redacted_settings, redacted_text

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["vllm", "--api-key", "hunter2", "--port", "1"], ["vllm", "--api-key", HIDDEN, "--port", "1"]),
        (["vllm", "--api-key", "a", "hunter2", "--port", "1"], ["vllm", "--api-key", HIDDEN, HIDDEN, "--port", "1"]),
        (["vllm", "--api-key"], ["vllm", "--api-key"]),
        (["vllm", "--api-key=hunter2", "model"], ["vllm", f"--api-key={HIDDEN}", "model"]),
        (["--api_key=hunter2=x\nhunter2"], [f"--api_key={HIDDEN}"]),
        (["--apiKey", "hunter2"], ["--apiKey", HIDDEN]),
        (["-api-key", "hunter2"], ["-api-key", HIDDEN]),
        (["--hf-token", "hunter2"], ["--hf-token", HIDDEN]),
        (["--admin-api-key", "hunter2"], ["--admin-api-key", HIDDEN]),
        (["--new-password", "hunter2"], ["--new-password", HIDDEN]),
        (["--ssl-keyfile-password", "hunter2"], ["--ssl-keyfile-password", HIDDEN]),
        (["--kv-transfer-config.auth_token=hunter2"], [f"--kv-transfer-config.auth_token={HIDDEN}"]),
        (["curl", "-H", "Authorization: Bearer hunter2", "-v"], ["curl", "-H", HIDDEN, HIDDEN]),
        (["curl", "-HAuthorization: Bearer hunter2"], ["curl", f"-HAuthorization: {HIDDEN}"]),
        (["curl", "--header", "X-Mine: hunter2"], ["curl", "--header", HIDDEN]),
        (["curl", "--header=X-Mine: hunter2"], ["curl", f"--header={HIDDEN}"]),
        (["env", "HF_TOKEN=hunter2", "A=1", "vllm"], ["env", f"HF_TOKEN={HIDDEN}", "A=1", "vllm"]),
        (["docker", "-e", "SERPER_API_KEY=hunter2"], ["docker", "-e", f"SERPER_API_KEY={HIDDEN}"]),
        (["docker", "-eHF_TOKEN=hunter2"], ["docker", f"-eHF_TOKEN={HIDDEN}"]),
        (["AWS_SECRET_ACCESS_KEY=hunter2"], [f"AWS_SECRET_ACCESS_KEY={HIDDEN}"]),
        (["git", "https://me:hunter2@host/x"], ["git", f"https://{HIDDEN}@host/x"]),
        (["--store", "redis://:hunter2@host:1/0"], ["--store", f"redis://{HIDDEN}@host:1/0"]),
        (["http://host/x?a=1&api_key=hunter2&b=2"], [f"http://host/x?a=1&api_key={HIDDEN}&b=2"]),
        (["--model=http://host/x?sig=hunter2"], [f"--model=http://host/x?sig={HIDDEN}"]),
        (["--config", '{"api_key": "hunter2", "n": 3}'], ["--config", f'{{"api_key": "{HIDDEN}", "n": 3}}']),
        (['--config={"n": 3, "token":"hunter2"}'], [f'--config={{"n": 3, "token":"{HIDDEN}"}}']),
        (["--config", '{"password": "hun\\"hunter2"}'], ["--config", f'{{"password": "{HIDDEN}"}}']),
        (["--config", "{'secret': 'hunter2'}"], ["--config", f"{{'secret': '{HIDDEN}'}}"]),
        (["sh", "-c", "vllm m --api-key hunter2"], ["sh", "-c", f"vllm m --api-key {HIDDEN}"]),
        (["sh", "-c", "vllm --api-key hunter2 hunter2 --port 1"], ["sh", "-c", f"vllm --api-key {HIDDEN} --port 1"]),
        (["sh", "-c", "vllm --api-key=hunter2 --port 1"], ["sh", "-c", f"vllm --api-key={HIDDEN} --port 1"]),
        (["sh", "-c", "HF_TOKEN=hunter2 vllm serve"], ["sh", "-c", f"HF_TOKEN={HIDDEN}"]),
        (
            ["sh", "-c", "curl -H 'Authorization: Bearer hunter2'"],
            ["sh", "-c", f"curl -H 'Authorization: {HIDDEN} {HIDDEN}'"],
        ),
        (["huggingface", "hf_hunter2hunter2"], ["huggingface", HIDDEN]),
        (["x", "sk-proj-hunter2hunter2"], ["x", HIDDEN]),
        ([], []),
    ],
)
def test_secrets_in_command_lines(command: list[str], shown: list[str]) -> None:
    assert redacted(command) == shown
    assert SECRET not in str(shown)


@pytest.mark.parametrize(
    "command",
    [
        ["vllm", "serve", "/models/meta-llama/Llama-3.1-8B", "-tp", "2"],
        ["--max-num-batched-tokens", "8192"],
        ["--max-total-tokens=100000", "--num-reserved-decode-tokens", "512"],
        ["--tokenizer", "gpt2", "--tokenizer-mode", "auto", "--skip-tokenizer-init"],
        ["--kv-cache-dtype", "auto", "--enable-prefix-caching"],
        ["--stop-token-ids", "1", "2"],
        ["--speculative-num-draft-tokens", "4"],
        ["--served-model-name", "keynote", "--monkey", "tokenize", "--authors", "x"],
        ["--max-new-tokens", "64", "--min-new-tokens", "1"],
        ["CUDA_VISIBLE_DEVICES=0,1", "VLLM_USE_V1=1", "PATH=/bin"],
        ["--url", "http://host:8000/v1?stream=true&n=3"],
        ["--config", '{"max_tokens": 5, "tokenizer": "x", "n": [1, 2]}'],
        ["sh", "-c", "vllm serve m --max-num-batched-tokens 8192 --port 1"],
        ["python", "-m", "sglang.launch_server", "--chunked-prefill-size", "2048"],
    ],
)
def test_what_is_no_secret_stays(command: list[str]) -> None:
    assert redacted(command) == command


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "export HF_TOKEN=hunter2; vllm serve m"],
        ["sh", "-c", "cd /srv && HF_TOKEN=hunter2 vllm serve m"],
        ["sh", "-c", "A=1 HF_TOKEN=hunter2 vllm serve m"],
        ["docker", "run", "--env=HF_TOKEN=hunter2"],
        ["env", "ID_TOKEN=hunter2", "vllm"],
        ["--config", '{"a": {"token": "hunter2"}}'],
        ['--config={"a":{"token":"hunter2"}}'],
        ["--config", '{"api_key": ["a", "hunter2"]}'],
        ["--config", '{"headers": {"X-Mine": "hunter2"}}'],
        ["sh", "-c", 'vllm --config "{\\"api_key\\": \\"hunter2\\"}"'],
        ["sh", "-c", "curl -H 'x-api-key: hunter2' http://host"],
        ["git", "https://me:p@hunter2@host/x"],
    ],
    ids=" ".join,
)
def test_secrets_that_are_hard_to_tell(command: list[str]) -> None:
    assert SECRET not in str(redacted(command))


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "cd /srv && API_KEYS=one,hunter2 vllm serve m"],
        ["sh", "-c", "cd /srv && HF_TOKEN=one'hunter2' vllm serve m"],
        ["--config", '{"headers": {"a": {"n": 1}, "X-Mine": "hunter2"}}'],
        ["--config", '{"api_key": [["one"], "hunter2"]}'],
    ],
    ids=" ".join,
)
def test_secrets_of_several_parts(command: list[str]) -> None:
    assert SECRET not in str(redacted(command))


@pytest.mark.parametrize(
    "command",
    [
        ["--config", '{"headers": {"a": "}", "X-Mine": "hunter2"}}'],
        ["--config", '{"api_key": ["]", "hunter2"]}'],
        ["sh", "-c", "cd /srv && HF_TOKEN=one\\ hunter2 vllm serve m"],
    ],
    ids=" ".join,
)
def test_secrets_with_odd_characters(command: list[str]) -> None:
    assert SECRET not in str(redacted(command))


@pytest.mark.parametrize("character", ["a", "-", "\n"])
def test_long_words_take_no_time(character: str) -> None:
    began = time.process_time()
    redacted([character * 6000])
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("option", ["--long-prefill-token-threshold", "--enable-prompt-tokens-details"])
def test_amounts_of_tokens_are_no_secrets(option: str) -> None:
    assert not is_secret(option)


@pytest.mark.parametrize(
    ("mapping", "shown"),
    [
        ({"api_key": "hunter2", "port": 1}, {"api_key": HIDDEN, "port": 1}),
        ({"admin_api_key": "hunter2"}, {"admin_api_key": HIDDEN}),
        ({"api_key": ["hunter2", "x"]}, {"api_key": HIDDEN}),
        ({"auth": {"user": "hunter2"}}, {"auth": HIDDEN}),
        ({"api_key": None, "hf_token": "", "auth": False}, {"api_key": None, "hf_token": "", "auth": False}),
        ({"a": {"b": {"token": "hunter2", "n": 1.5}}}, {"a": {"b": {"token": HIDDEN, "n": 1.5}}}),
        ({"launch_command": "sglang --api-key hunter2 --tp 2"}, {"launch_command": f"sglang --api-key {HIDDEN} --tp 2"}),
        ({"urls": ["http://u:hunter2@h/", "x"]}, {"urls": [f"http://{HIDDEN}@h/", "x"]}),
        ({"extra": '{"password": "hunter2"}'}, {"extra": f'{{"password": "{HIDDEN}"}}'}),
        ({"states": [{"token": "hunter2"}], "n": 1}, {"n": 1}),
        (
            {"max_total_tokens": 5, "tokenizer_mode": "auto", "skip_tokenizer_init": False, "stop_token_ids": [1, 2]},
            {"max_total_tokens": 5, "tokenizer_mode": "auto", "skip_tokenizer_init": False, "stop_token_ids": [1, 2]},
        ),
        ({"kv_cache_dtype": "auto", "seed": None, "layers": []}, {"kv_cache_dtype": "auto", "seed": None, "layers": []}),
    ],
)
def test_secrets_in_settings(mapping: dict[str, Any], shown: dict[str, Any]) -> None:
    assert redacted_settings(mapping) == shown
    assert SECRET not in str(shown)


def test_a_command_line_as_a_list_among_the_settings() -> None:
    assert SECRET not in str(redacted_settings({"argv": ["sglang", "--api-key", "hunter2"]}))


@pytest.mark.parametrize("header", ["Authorization: Bearer hunter2", "x-api-key: hunter2", "Cookie: a=hunter2; b=hunter2"])
def test_headers_in_a_text(header: str) -> None:
    text = f"Host: here\n{header}\nAccept: */*"
    shown = redacted_text(text)
    assert SECRET not in shown
    assert shown.splitlines()[::2] == ["Host: here", "Accept: */*"]


Way = Callable[[str], list[str]]

ARGUMENTS: list[Way] = [
    lambda secret: ["--api-key", secret],
    lambda secret: ["--api-key", "first", secret],
    lambda secret: ["--hf_token", secret],
    lambda secret: ["--admin-api-key", secret],
    lambda secret: ["-H", secret],
    lambda secret: [f"--api-key={secret}"],
    lambda secret: [f"--header={secret}"],
    lambda secret: [f"HF_TOKEN={secret}"],
    lambda secret: ["-e", f"MY_PASSWORD={secret}"],
]
"""Where a secret is a word, or the end of one."""

TEXTS: list[Way] = [
    lambda secret: ["sh", "-c", f"vllm serve m --api-key {secret} --port 1"],
    lambda secret: ["sh", "-c", f"vllm serve m --hf-token={secret}"],
    lambda secret: ["sh", "-c", f"curl -H 'Authorization: Bearer {secret}' http://host"],
    lambda secret: [f"-HAuthorization: Basic {secret}"],
    lambda secret: ["--config", json.dumps({"a": 1, "api_key": secret, "b": True, "token": secret})],
    lambda secret: [f"https://me:{secret}@host/x"],
    lambda secret: [f"https://host/x?n=1&access_token={secret}&m=2"],
]
"""Where it is within a word."""

SAFE = st.text(string.ascii_letters + string.digits + "._~", min_size=1)


@settings(deadline=None)
@given(secret=st.text(min_size=1), way=st.sampled_from(ARGUMENTS))
def test_a_secret_argument_is_never_shown(secret: str, way: Way) -> None:
    assume(not secret.startswith("--"))  # no parser takes it for a value
    command = ["vllm", "serve", *way(secret), "--port", "1"]
    assume(all(secret not in word for word in [HIDDEN, *way("")]))
    assert all(secret not in word for word in redacted(command)[2:-2])


@settings(deadline=None)
@given(secret=SAFE, ways=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3))
def test_a_secret_within_a_text_is_never_shown(secret: str, ways: list[Way]) -> None:
    assume(all(secret not in word for word in [HIDDEN, *(word for way in ways for word in way(""))]))
    command = [word for way in ways for word in way(secret)]
    assert all(secret not in word for word in redacted(command))


@settings(deadline=None)
@given(
    secret=st.text(min_size=1),
    names=st.lists(st.sampled_from(["model", "config", "engine"]), max_size=3),
    key=st.sampled_from(["api_key", "hf_token", "password", "clientSecret", "AUTH"]),
)
def test_a_secret_setting_is_never_shown_however_deep(secret: str, names: list[str], key: str) -> None:
    mapping: dict[str, Any] = {key: secret}
    for name in names:
        mapping = {name: mapping}
    shown = redacted_settings(mapping)
    for name in names[::-1]:
        shown = shown[name]
    assert shown == {key: HIDDEN}
