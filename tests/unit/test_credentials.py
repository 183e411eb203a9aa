"""Where credentials are found, and that they never show."""

import base64
import contextlib
import json
import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import BatchError, RegistryError
from jupyterlab_ai_batch.oci.credentials import Credentials, credential_files, find_credentials

SECRET = "correct horse"
COLONS = "a:b:"
HOST = "registry.example.org"


def encoded(user="ada", password=SECRET):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def write(tmp_path):
    """Write a configuration; returns its path."""

    def write_config(content, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_config


@pytest.fixture
def install(tmp_path):
    """Install a credential helper with a shell script; returns the environment to find it in."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def install_helper(name, script):
        path = directory / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return {"PATH": f"{directory}:{os.environ['PATH']}"}

    return install_helper


def find(path, host=HOST, repository="team/work", environ=None, **options):
    return find_credentials(host, repository, files=[path], environ=environ or {}, **options)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": encoded()}, Credentials(username="ada", password=SECRET)),
        ({"auth": encoded("ada", COLONS)}, Credentials(username="ada", password=COLONS)),
        ({"username": "ada", "password": SECRET}, Credentials(username="ada", password=SECRET)),
        ({"auth": encoded("ada", ""), "identitytoken": SECRET}, Credentials(username="ada", identity_token=SECRET)),
        ({"registrytoken": SECRET}, Credentials(registry_token=SECRET)),
        ({}, Credentials()),
        ("nonsense", Credentials()),
    ],
)
def test_every_kind_of_entry_is_understood(write, entry, expected):
    """As docker and podman write them."""
    assert find(write({"auths": {HOST: entry}})) == expected


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ([HOST], HOST),
        ([f"https://{HOST}"], f"https://{HOST}"),
        ([f"https://{HOST}/v2/"], f"https://{HOST}/v2/"),
        ([HOST, f"{HOST}/team"], f"{HOST}/team"),
        ([HOST, f"{HOST}/team", f"{HOST}/team/work"], f"{HOST}/team/work"),
        ([HOST, f"{HOST}/other", f"{HOST}/tea", f"{HOST}/team/works"], HOST),
        ([f"{HOST}:5000", "example.org", f"evil-{HOST}"], None),
    ],
)
def test_the_most_specific_entry_counts(write, keys, chosen):
    """Whole parts only, and never another host or port."""
    found = find(write({"auths": {key: {"auth": encoded(key.replace(":", ""))} for key in keys}}))
    assert found.username == (chosen or "").replace(":", "")


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(write, key):
    """All of them are found."""
    assert find(write({"auths": {key: {"auth": encoded()}}}), host="docker.io").username == "ada"


def test_files_are_asked_in_order(write, tmp_path):
    """The first that has an answer counts; files that are not there do not matter."""
    other = write({"auths": {"elsewhere.org": {"auth": encoded("other")}}}, "1.json")
    first = write({"auths": {HOST: {"auth": encoded("first")}}}, "2.json")
    second = write({"auths": {HOST: {"auth": encoded("second")}}}, "3.json")
    files = [tmp_path / "none.json", other, first, second]
    assert find_credentials(HOST, "x", files=files, environ={}).username == "first"
    assert not find_credentials("third.org", "x", files=files, environ={})


def test_the_files_of_container_tools(tmp_path):
    """Their order, with and without variables."""
    home = tmp_path
    assert credential_files({}, home=home) == (home / ".docker/config.json", home / ".config/containers/auth.json")
    environ = {
        "REGISTRY_AUTH_FILE": "/a/auth.json",
        "DOCKER_CONFIG": "/b",
        "XDG_RUNTIME_DIR": "/c",
        "XDG_CONFIG_HOME": "/d",
    }
    expected = ["/a/auth.json", "/b/config.json", "/c/containers/auth.json", "/d/containers/auth.json"]
    assert [str(path) for path in credential_files(environ, home=home)] == expected


def test_a_helper_is_asked_for_its_host(write, install):
    """On standard input; its answer is used before the file's entries, the store's after them."""
    answer = json.dumps({"Username": "helper", "Secret": SECRET})
    environ = install("one", f"read host; [ \"$1 $host\" = 'get {HOST}' ] && echo '{answer}'")
    path = write({"credHelpers": {HOST: "one"}, "auths": {HOST: {"auth": encoded("file")}}})
    assert find(path, environ=environ) == Credentials(username="helper", password=SECRET)
    path = write({"credsStore": "one", "auths": {HOST: {"auth": encoded("file")}}})
    assert find(path, environ=environ).username == "file"
    path = write({"credsStore": "one", "auths": {HOST: {}}})
    assert find(path, environ=environ).username == "helper"


def test_a_helper_may_give_a_refresh_token(write, install):
    """Its user name says so."""
    environ = install("token", f"""echo '{{"Username": "<token>", "Secret": "{SECRET}"}}'""")
    assert find(write({"credsStore": "token"}), environ=environ) == Credentials(identity_token=SECRET)


def test_a_helper_that_knows_nothing_is_no_failure(write, install):
    """The next place is asked."""
    environ = install("empty", "echo credentials not found in native keychain; exit 1")
    path = write({"credHelpers": {HOST: "empty"}, "auths": {HOST: {"auth": encoded("file")}}})
    assert find(path, environ=environ).username == "file"


@pytest.mark.parametrize(
    ("name", "script", "why"),
    [
        ("absent", None, "not installed"),
        ("broken", f"echo {SECRET}; echo {SECRET} >&2; exit 3", "status 3"),
        ("strange", f'echo \'{{"Username": ["{SECRET}"], "Secret": "{SECRET}"}}\'', "makes no sense"),
        ("babbling", f'echo "{SECRET}"', "makes no sense"),
        ("slow", "exec sleep 60", "no answer for 0.2 s"),
        ("../../bin/sh", None, "not that of a program"),
        ("a b; rm -rf", None, "not that of a program"),
        (["x"], None, "not that of a program"),
    ],
)
def test_a_helper_that_fails_is_named(write, install, name, script, why):
    """And nothing that it said."""
    environ = install(name, script) if script else {"PATH": os.environ["PATH"]}
    with pytest.raises(RegistryError, match=why) as caught:
        find(write({"credsStore": name}), environ=environ, timeout_s=0.2 if name == "slow" else 30)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    "content",
    [f'{{"auths": "{SECRET}', f'["{SECRET}"]', f'"{SECRET}"', json.dumps({"auths": {HOST: {"auth": SECRET + "!"}}}),
     json.dumps({"auths": {HOST: {"auth": base64.b64encode(SECRET.encode()).decode()}}}), "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_named_and_not_quoted(write, content):
    """The error says which file to repair."""
    path = write(content)
    with pytest.raises(RegistryError) as caught:
        find(path)
    assert str(path) in caught.value.hint
    assert_silent(caught.value)


def assert_silent(error):
    shown = "".join(traceback.format_exception(error)) if isinstance(error, BatchError) else ""
    for text in (shown, repr(error.details), str(error.hint)):
        assert SECRET not in text
        assert base64.b64encode(SECRET.encode()).decode() not in text


def test_credentials_do_not_show():
    """Neither in a repr nor in a format."""
    credentials = Credentials(username="ada", password=SECRET, identity_token=SECRET, registry_token=SECRET)
    assert "Credentials()" in f"{credentials!r} {credentials}"
    assert SECRET not in f"{credentials!r} {credentials}"


KEYS = st.sampled_from(["auths", "credHelpers", "credsStore", HOST, "auth", "username", "password"]) | st.text()
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@given(content=ANY_JSON)
def test_any_json_is_understood_or_refused(tmp_path_factory, content):
    """Never another error."""
    path = tmp_path_factory.mktemp("any") / "config.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(RegistryError):
        assert isinstance(find(path, environ={"PATH": "/nonexistent"}), Credentials)
