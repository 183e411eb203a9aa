"""Text that looks like a secret, found before it travels. Only the place and the kind are kept, never the text."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MAX_SCANNED_BYTES = 1 << 20
MAX_FINDINGS = 20

# kind, a literal that every match contains (fast), and the pattern.
_KINDS: tuple[tuple[str, bytes, re.Pattern[bytes]], ...] = (
    ("private key", b"PRIVATE KEY-----", re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("AWS access key", b"AKIA", re.compile(rb"(?<![A-Z0-9])AKIA[A-Z2-7]{16}(?![A-Z0-9])")),
    ("AWS temporary key", b"ASIA", re.compile(rb"(?<![A-Z0-9])ASIA[A-Z2-7]{16}(?![A-Z0-9])")),
    ("GitHub token", b"gh", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36,}")),
    ("GitHub token", b"github_pat_", re.compile(rb"\bgithub_pat_[A-Za-z0-9_]{60,}")),
    ("GitLab token", b"glpat-", re.compile(rb"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("Hugging Face token", b"hf_", re.compile(rb"\bhf_[A-Za-z0-9]{34,}")),
    ("OpenAI or Anthropic key", b"sk-", re.compile(rb"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}")),
    ("Slack token", b"xox", re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("Google API key", b"AIza", re.compile(rb"\bAIza[A-Za-z0-9_-]{35}")),
    ("PyPI token", b"pypi-AgE", re.compile(rb"\bpypi-AgE[A-Za-z0-9_-]{50,}")),
    ("npm token", b"npm_", re.compile(rb"\bnpm_[A-Za-z0-9]{36}")),
    ("Weights & Biases key", b"WANDB_API_KEY", re.compile(rb"WANDB_API_KEY\W{1,6}[a-f0-9]{40}")),
    ("JSON web token", b"eyJ", re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("password in a URL", b"://", re.compile(rb"\b[a-z][a-z0-9+.-]{2,20}://[^\s/:@\"']{1,60}:[^\s/@\"'{}<>$]{3,80}@")),
)


def is_scanned(path: str, data: bytes) -> bool:
    """Whether a file's content is looked at: notebooks, and text below 1 MiB."""
    if PurePosixPath(path).suffix == ".ipynb":
        return True
    return len(data) <= MAX_SCANNED_BYTES and b"\0" not in data[:4096]


def find_secrets(data: bytes) -> list[tuple[int, str]]:
    """(line, kind) of what looks like a secret, in the order of lines, at most 20."""
    found: set[tuple[int, str]] = set()
    for kind, literal, pattern in _KINDS:
        if literal not in data:
            continue
        for count, match in enumerate(pattern.finditer(data)):
            if count >= MAX_FINDINGS:
                break
            found.add((data.count(b"\n", 0, match.start()) + 1, kind))
    return sorted(found)[:MAX_FINDINGS]
