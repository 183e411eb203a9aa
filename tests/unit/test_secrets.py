from __future__ import annotations

import json
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.snapshot.secret_kinds import KINDS
from jupyterlab_ai_batch.snapshot.secrets import find_secrets, is_scanned, load_hyperscan, narrow_by_literals

LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def chosen(count: int, letters: str = LETTERS, seed: int = 1) -> str:
    """Random text; made here, so that no scanner takes this file for a leak."""
    return "".join(random.Random(seed * 1000 + count).choices(letters, k=count))  # noqa: S311


BEGIN = "-----BEGIN {}PRIVATE KEY-----"
SAMPLES = [
    ("private key", BEGIN.format("RSA ") + "\n" + chosen(64)),
    ("private key", BEGIN.format("OPENSSH ") + "\n" + chosen(70)),
    ("private key", BEGIN.format("RSA ") + "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n" + chosen(64)),
    ("private key", json.dumps(BEGIN.format("") + "\n" + chosen(64))),
    ("private key", json.dumps([BEGIN.format("") + "\n", chosen(64)], indent=2)[2:]),
    ("AWS access key", "key = 'AKIA" + chosen(16, BASE32) + "'"),
    ("AWS temporary key", "ASIA" + chosen(16, BASE32)),
    ("AWS secret key", "aws_secret_access_key = " + chosen(40)),
    ("AWS secret key", 'os.environ["AWS_SECRET_ACCESS_KEY"] = "' + chosen(40) + '"'),
    ("GitHub token", "ghp_" + chosen(36)),
    ("GitHub token", "ghs_" + chosen(36)),
    ("GitHub token", "github_pat_" + chosen(22) + "_" + chosen(59)),
    ("GitLab token", "glpat-" + chosen(20)),
    ("Hugging Face token", "hf_" + chosen(34)),
    ("Anthropic key", "sk-ant-" + "api03-" + chosen(93)),
    ("OpenAI key", "sk-" + chosen(48)),
    ("OpenAI key", "sk-" + "proj-" + chosen(80)),
    ("Slack token", "xoxb-" + chosen(12, string.digits) + "-" + chosen(24)),
    (
        "Slack webhook",
        "https://hooks.slack.com/services/T" + chosen(9, BASE32) + "/B" + chosen(9, BASE32) + "/" + chosen(24),
    ),
    ("Google API key", "AIza" + chosen(35)),
    ("Google OAuth secret", "GOCSPX-" + chosen(28)),
    ("PyPI token", "pypi-AgE" + chosen(120)),
    ("npm token", "//registry.npmjs.org/:_authToken=npm_" + chosen(36)),
    ("Docker Hub token", "dckr_pat_" + chosen(27)),
    ("Stripe key", "sk_live_" + chosen(24)),
    ("Stripe key", "rk_live_" + chosen(99)),
    ("SendGrid key", "SG." + chosen(22) + "." + chosen(43)),
    ("Databricks token", "dapi" + chosen(32, HEX)),
    ("Vault token", "hvs." + chosen(90)),
    ("Weights & Biases key", "WANDB_API_KEY=" + chosen(40, HEX)),
    ("Jupyter token", "JUPYTERHUB_API_TOKEN=" + chosen(32, HEX)),
    ("Jupyter token", "http://localhost:8888/lab?token=" + chosen(48, HEX)),
    ("Kubernetes client key", "    client-key-data: " + chosen(400)),
    ("JSON web token", "eyJ" + chosen(30) + ".eyJ" + chosen(200) + "." + chosen(43)),
    ("Azure key", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + chosen(86) + "==;"),
    ("Azure key", "SharedAccessKeyName=Root;SharedAccessKey=" + chosen(43) + "="),
    ("Azure signature", "https://a.blob.core.windows.net/c?sv=2026-01-01&sig=" + chosen(43) + "%3D"),
    ("password in a URL", "postgres://me:" + chosen(8) + "@db/x"),
    ("password in a URL", "https://oauth2:" + chosen(20) + "@git.corp.net:8443/a.git"),
    ("password for a machine", "machine git.corp.net login me password " + chosen(9)),
    ("password for a machine", "machine git.corp.net\n  login me\n  password " + chosen(9)),
]
HARMLESS = [
    "https://example.org/a:b@c",
    "https://user:password@db.corp.net/",
    "https://user:${DB_PASSWORD}@db.corp.net/",
    "https://{user}:{secret}@db.corp.net/",
    "https://me:" + chosen(8) + "@registry.example.com/",
    "git@github.com:a/b.git, http://host:8080/x@y",
    "task-force-sk-ill",
    "sk-" + "x" * 48,
    "sk-learn-contrib-is-a-name-with-many-small-words-in-it",
    "AKIA",
    "AKIAIOSFODNN7" + "EXAMPLE",
    "AKIA" + chosen(16, BASE32) + "AB",
    "base64" + "AKIA" + chosen(16, BASE32),
    "ghp_" + "X" * 36,
    "ghp_your-token-goes-here",
    "hf_" + "a" * 34,
    "xoxb-your-token",
    "hf_" + chosen(34) + "_and_more",
    "eyJ",
    "user@host",
    BEGIN.format("RSA ") + "\n...\n",
    'if text.startswith("' + BEGIN.format("") + '"):\n    return parse(text)\n',
    "aws_secret_access_key = YOUR-SECRET",
    "machine learning login page password reset",
    "machine h login me password ${PW}"[:30],
    "?token=abc",
]


@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_secrets_in_text_are_found_by_line(kind, text):
    """The line and the kind, nothing else."""
    assert find_secrets(b"first\nsecond " + text.encode() + b" rest\n") == [(2, kind)]


def test_every_kind_has_a_sample():
    """No pattern is there that nothing was ever found with."""
    assert {kind for kind, _ in SAMPLES} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_is_no_secret(text):
    """Placeholders, documentation, and things that only resemble one."""
    assert find_secrets(text.encode()) == []


@pytest.mark.parametrize(("kind", "text"), [("GitHub token", "ghp_" + chosen(36)), ("npm token", "npm_" + chosen(36))])
def test_notebook_sources_and_outputs_are_looked_at(kind, text):
    """Inside the JSON of a notebook, right after an escaped line break or a quote."""
    output = {"output_type": "stream", "name": "stdout", "text": f"login ok\n{text}\n\tbye"}
    notebook = {"cells": [{"cell_type": "code", "source": [f"t = '{text}'"], "outputs": [output]}]}
    assert find_secrets(json.dumps(notebook, indent=1).encode()) == [(6, kind), (12, kind)]


def test_only_so_many_are_listed():
    """Twenty are enough to act."""
    assert len(find_secrets(b"".join(b"hf_%s\n" % chosen(34, seed=n).encode() for n in range(100)))) == 20


def test_binary_files_and_long_ones_are_passed_over():
    """Text below 1 MiB is looked at; notebooks always."""
    assert (is_scanned("a.txt", b"text"), is_scanned("a.bin", b"\0"), is_scanned("a.txt", bytes(2 << 20))) == (
        True,
        False,
        False,
    )
    assert is_scanned("n.ipynb", b" " * (2 << 20))


FRAGMENTS = [text for _, text in SAMPLES] + HARMLESS + [kind.literals[0].decode() for kind in KINDS]
pieces = st.one_of(
    st.sampled_from(FRAGMENTS).map(str.encode),
    st.sampled_from([b"\n", b" ", b'"', b"\\n", b"_", b"-", b".", b"\xff", b"\0", b"=", b"@", b":"]),
    st.binary(max_size=12),
    st.builds(lambda text, at: text.encode()[at % len(text) :], st.sampled_from(FRAGMENTS), st.integers(0, 200)),
    st.builds(lambda text, at: text.encode()[: at % len(text)], st.sampled_from(FRAGMENTS), st.integers(0, 200)),
)


@pytest.mark.skipif(load_hyperscan() is None, reason="hyperscan is not installed")
@settings(max_examples=500, deadline=None)
@given(st.lists(pieces, max_size=8).map(b"".join))
def test_both_engines_find_the_same(data):
    """Hyperscan only says where looking is worth it: no finding is lost, none is added."""
    assert find_secrets(data, narrow=load_hyperscan()) == find_secrets(data, narrow=narrow_by_literals)


def test_the_faster_engine_takes_over_without_a_seam():
    """However much was scanned before, the same text gives the same findings."""
    text = b"a\nhf_" + chosen(34).encode()
    found = [find_secrets(text), find_secrets(b" " * (8 << 20)), find_secrets(text)]
    assert found == [[(2, "Hugging Face token")], [], [(2, "Hugging Face token")]]
