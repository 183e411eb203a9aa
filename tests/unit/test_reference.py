"""Names of images, as users write them and as an attacker would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import InvalidSubmissionError
from jupyterlab_ai_batch.oci.reference import Reference, is_host, is_repository, is_tag, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", ("docker.io", "library/python", None, None)),
        ("python:3.12-slim", ("docker.io", "library/python", "3.12-slim", None)),
        ("jupyter/base-notebook", ("docker.io", "jupyter/base-notebook", None, None)),
        ("docker.io/python", ("docker.io", "library/python", None, None)),
        ("index.docker.io/library/python:3", ("docker.io", "library/python", "3", None)),
        ("localhost/a", ("localhost", "a", None, None)),
        ("localhost:5000/a/b/c:t", ("localhost:5000", "a/b/c", "t", None)),
        ("registry.example.org/team/work@" + DIGEST, ("registry.example.org", "team/work", None, DIGEST)),
        ("registry.example.org:443/x:tag@" + DIGEST, ("registry.example.org:443", "x", "tag", DIGEST)),
        ("[::1]:5000/x", ("[::1]:5000", "x", None, None)),
        ("127.0.0.1:5000/my_a.b-c__d--e/x", ("127.0.0.1:5000", "my_a.b-c__d--e/x", None, None)),
        ("MyHost/x", ("MyHost", "x", None, None)),
    ],
)
def test_names_are_read_as_container_tools_read_them(text, expected):
    """Host, repository, tag, digest."""
    host, repository, tag, digest = expected
    assert parse_reference(text) == Reference(host=host, repository=repository, tag=tag, digest=digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        ":",
        "@",
        "a:",
        "a@",
        "a/",
        "/a",
        "a//b",
        "localhost:5000/",
        "localhost:/a",
        "localhost:65536/a",
        "localhost:0/a",
        "localhost:5000x/a",
        "https://host.org/a",
        "host.org/A",
        "host.org/a/B",
        "user:password@host.org/a",
        "host.org/a@sha256:abc",
        "host.org/a@" + DIGEST.upper(),
        "host.org/a@md5:" + "0" * 32,
        "host.org/a@" + DIGEST + "0",
        "host.org/a:t@" + DIGEST + "@" + DIGEST,
        "host.org/a:-tag",
        "host.org/a:" + "t" * 129,
        "host.org/" + "a" * 256,
        "host..org/a",
        "-host.org/a",
        "host.org/../a",
        "host.org/a/..",
        "host.org/a?x=1",
        "host.org/a#x",
        "host.org/a b",
        "host.org/a\n",
        "host.org/a:t\n",
        "host.org\r\nX: y/a",
        "host.org/a%2f",
        "host.org/a\0",
        "höst.org/a",
        "host.org/ä",
        "[::1/a",
        "::1/a",
        "host.org/a_",
        "host.org/_a",
        "host.org/a..b",
        "host.org/a___b",
        "a" * 5000,
    ],
)
def test_what_is_not_a_name_is_refused_with_a_hint(text):
    """Nothing of it reaches an address."""
    with pytest.raises(InvalidSubmissionError) as caught:
        parse_reference(text)
    assert caught.value.hint
    assert len(caught.value.message) < 700
    assert caught.value.message.isprintable()


NAMES = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+)*", fullmatch=True).filter(is_repository)


@given(
    host=st.from_regex(r"[a-z0-9]+\.[a-z]+(:[1-9][0-9]{0,3})?", fullmatch=True).filter(is_host),
    repository=NAMES,
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True).filter(is_tag),
    digest=st.none() | st.just(DIGEST),
)
def test_a_reference_is_read_back_from_its_text(host, repository, tag, digest):
    """str and parse are inverse."""
    reference = Reference(host=host, repository=repository, tag=tag, digest=digest)
    if host not in ("docker.io", "index.docker.io"):
        assert parse_reference(str(reference)) == reference


@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    """Never another error; and what is read contains nothing but the grammar's signs."""
    try:
        reference = parse_reference(text)
    except InvalidSubmissionError:
        return
    assert str(reference).isascii()
    assert str(reference).isprintable()
    assert " " not in str(reference)


def test_docker_hub_answers_elsewhere():
    """Its name is not its address; the digest wins over the tag."""
    assert parse_reference("python").endpoint == "registry-1.docker.io"
    assert parse_reference("localhost:5000/a").endpoint == "localhost:5000"
    assert [parse_reference(text).target for text in ("a", "a:t", f"a:t@{DIGEST}")] == ["latest", "t", DIGEST]
