r"""What secrets look like: one pattern for each kind, in the syntax that Python's ``re`` and Hyperscan share.

No lookaround, no back-reference, no ``\b``: the edges of a token are checked by ``secrets``. The group of a pattern,
where it has one, is the part that must look random; else all of it must.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class SecretKind(NamedTuple):
    """One kind.

    Attributes:
        name: What the user is told.
        literals: Every match contains one of them.
        pattern: See the module.
        whole: Whether letters and digits beside a match mean that it is something else.
    """

    name: str
    literals: tuple[bytes, ...]
    pattern: bytes
    whole: bool = True


_QUOTES = rb"[\s\"'\]:=,\\]{1,8}"
_BREAK = rb"(?:[\s\",]|\\[nrt]){0,40}"

KINDS = (
    SecretKind(
        "private key",
        (b"PRIVATE KEY",),
        rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:" + _BREAK + rb"[A-Za-z-]{4,20}: [^\r\n\"\\]{1,80}){0,3}" + _BREAK + rb"([A-Za-z0-9+/]{30,70})",
        whole=False,
    ),
    SecretKind("AWS access key", (b"AKIA",), rb"AKIA[A-Z2-7]{16}"),
    SecretKind("AWS temporary key", (b"ASIA",), rb"ASIA[A-Z2-7]{16}"),
    SecretKind(
        "AWS secret key",
        (b"aws_secret_access_key", b"AWS_SECRET_ACCESS_KEY", b"SecretAccessKey"),
        rb"(?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY|SecretAccessKey)" + _QUOTES + rb"([A-Za-z0-9/+]{40})",
    ),
    SecretKind(
        "GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        rb"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})",
    ),
    SecretKind(
        "GitLab token", (b"glpat-", b"glptt-", b"gldt-", b"glrt-"), rb"gl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{20,80}"
    ),
    SecretKind("Hugging Face token", (b"hf_",), rb"hf_[A-Za-z0-9]{34,40}"),
    SecretKind("Anthropic key", (b"sk-",), rb"sk-ant-[A-Za-z0-9_-]{32,200}"),
    SecretKind("OpenAI key", (b"sk-",), rb"sk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_]{20}[A-Za-z0-9_-]{12,200}"),
    SecretKind("Slack token", (b"xox",), rb"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,250}"),
    SecretKind(
        "Slack webhook",
        (b"hooks.slack.com/",),
        rb"hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/([A-Za-z0-9]{20,30})",
    ),
    SecretKind("Google API key", (b"AIza",), rb"AIza[A-Za-z0-9_-]{35}"),
    SecretKind("Google OAuth secret", (b"GOCSPX-",), rb"GOCSPX-[A-Za-z0-9_-]{28}"),
    SecretKind("PyPI token", (b"pypi-AgE",), rb"pypi-AgE[A-Za-z0-9_-]{50,250}"),
    SecretKind("npm token", (b"npm_",), rb"npm_[A-Za-z0-9]{36}"),
    SecretKind("Docker Hub token", (b"dckr_pat_",), rb"dckr_pat_[A-Za-z0-9_-]{27}"),
    SecretKind("Stripe key", (b"k_live_",), rb"[sr]k_live_[A-Za-z0-9]{20,250}"),
    SecretKind("SendGrid key", (b"SG.",), rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    SecretKind("Databricks token", (b"dapi",), rb"dapi[a-f0-9]{32}"),
    SecretKind("Vault token", (b"hvs.", b"hvb."), rb"hv[sb]\.[A-Za-z0-9_-]{24,250}"),
    SecretKind(
        "Weights & Biases key",
        (b"WANDB_API_KEY", b"api.wandb.ai"),
        rb"(?:WANDB_API_KEY|api\.wandb\.ai)[^a-f0-9]{1,60}([a-f0-9]{40})",
    ),
    SecretKind(
        "Jupyter token",
        (b"JUPYTERHUB_API_TOKEN", b"JPY_API_TOKEN", b"JUPYTER_TOKEN", b"?token="),
        rb"(?:(?:JUPYTERHUB_API_TOKEN|JPY_API_TOKEN|JUPYTER_TOKEN)" + _QUOTES + rb"|\?token=)([a-f0-9]{32,64})",
    ),
    SecretKind(
        "Kubernetes client key",
        (b"client-key-data",),
        rb"client-key-data" + _QUOTES + rb"([A-Za-z0-9+/]{100})",
        whole=False,
    ),
    SecretKind(
        "JSON web token",  # Kubernetes service accounts have such ones too
        (b"eyJ",),
        rb"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}",
    ),
    SecretKind(
        "Azure key",
        (b"AccountKey=", b"SharedAccessKey="),
        rb"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{43}|[A-Za-z0-9+/]{86})={1,2}",
        whole=False,
    ),
    SecretKind("Azure signature", (b"sig=",), rb"[?&]sig=([A-Za-z0-9%+/]{40,80})(?:%3D|=)", whole=False),
    SecretKind(
        "password in a URL",
        (b"://",),
        rb"://[^\s/:@\"'<>\\]{1,60}:([^\s/@\"'`{}<>$\\]{3,80})@[A-Za-z0-9\[][A-Za-z0-9.:-]{0,80}",
        whole=False,
    ),
    SecretKind(
        "password for a machine",
        (b"machine ",),
        rb"machine {1,9}[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9._-]{1,80}\s{1,9}login[ \t]{1,9}[^\s]{1,80}"
        rb"\s{1,9}password[ \t]{1,9}([^\s\"\\]{3,80})",
        whole=False,
    ),
)

# Of what documentation, tests and templates put where a secret belongs.
PLACEHOLDER = re.compile(
    rb"x{4}|\*{3}|\.{3}|0{8}|example|placeholder|sample|dummy|fake|changeme|change[-_]me|redacted|your[-_]|[-_]your|"
    rb"my[-_]?(?:token|secret|key)|1234567890|abcdefgh|deadbeef",
    re.IGNORECASE,
)
PLACEHOLDER_WORDS = frozenset(
    b"pass passwd password pw pwd secret token user username login me you foo bar baz test testing admin root none null"
    b" mypassword mypass hunter2 guest anonymous dbpass postgres pat abc xyz 123 1234 12345 123456".split()
)
