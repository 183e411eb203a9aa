"""The registry client against a real registry, in the ways that sites run it, and through what happens on the way."""

import contextlib
import hashlib
import json
import os
import socket
import threading

import pytest

from jupyterlab_ai_batch.errors import (
    BlobMissingError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
)
from jupyterlab_ai_batch.oci.credentials import Credentials
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE, Descriptor
from jupyterlab_ai_batch.oci.reference import parse_reference
from jupyterlab_ai_batch.oci.registry import RegistrySettings, connect
from jupyterlab_ai_batch.oci.transfer import copy_blob, copy_image
from jupyterlab_ai_batch.oci.transport_settings import RetryPolicy
from tests.programs import program
from tests.registries import (
    PASSWORD,
    USER,
    Authority,
    QuietHandler,
    RegistryServer,
    Server,
    TokenService,
    Wire,
    htpasswd_registry,
    open_registry,
    tls_registry,
)

MIB = 1 << 20
WRONG = "open barley"
REFRESH = "long lived"
ADA = Credentials(username=USER, password=PASSWORD)
pytestmark = pytest.mark.usefixtures("needs_registry")


@pytest.fixture(scope="module")
def needs_registry():
    program("docker-registry")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(tmp_path):
    with RegistryServer(tmp_path / "registry") as running:
        yield running


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def described(content):
    return {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}


def manifest_of(*contents):
    config, *layers = (described(content) for content in contents)
    fields = {"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config, "layers": layers}
    return json.dumps(fields).encode()


def put_image(store, tag, *contents):
    for content in contents:
        store.put_blob(content)
    return store.put_manifest(manifest_of(*contents), tag=tag, media_type=MANIFEST_MEDIA_TYPE)


def random_blob(size):
    return os.urandom(1 << 16) * (size >> 16) + os.urandom(size & 0xFFFF)


# Who may come in


def test_a_password_opens_a_registry(tmp_path):
    """Right, wrong and none."""
    with htpasswd_registry(tmp_path / "registry") as server:
        with open_registry(server.host, find=lambda _: ADA) as store:
            put_image(store, "latest", b"{}", b"layer")
        for credentials in (Credentials(), Credentials(username=USER, password=WRONG)):
            with open_registry(server.host, find=lambda _, shown=credentials: shown) as store:
                with pytest.raises(RegistryDeniedError) as caught:
                    store.get_manifest("latest")
                assert server.host in caught.value.hint
                assert WRONG not in repr((caught.value, caught.value.details, caught.value.hint))


def test_a_docker_configuration_opens_a_registry(tmp_path):
    """As mounted into a container from a Secret."""
    with htpasswd_registry(tmp_path / "registry") as server:
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {server.host: {"username": USER, "password": PASSWORD}}})
        )
        settings = RegistrySettings.of_user({"DOCKER_CONFIG": str(tmp_path)}, home=tmp_path)
        with connect(parse_reference(f"{server.host}/team/work"), settings) as store:
            digest = put_image(store, "latest", b"{}", b"layer")
            assert list(store.tags()) == [("latest", digest)]


def test_a_credential_helper_opens_a_registry(tmp_path):
    """It is asked for the host, and gives the password."""
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    with htpasswd_registry(tmp_path / "registry") as server:
        helper.write_text(
            f'#!/bin/sh\n[ "$1" = get ] && read host; [ "$host" = {server.host} ] || exit 1\n'
            f"echo '{json.dumps({'ServerURL': server.host, 'Username': USER, 'Secret': PASSWORD})}'\n"
        )
        helper.chmod(0o700)
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"auths": {server.host: {}}, "credsStore": "test"}))
        environ = {"PATH": f"{helper.parent}:/usr/bin:/bin"}
        with open_registry(server.host, find=_finder(server.host, path, environ)) as store:
            assert put_image(store, "latest", b"{}") == store.get_manifest("latest")[1]


def _finder(host, path, environ):
    from jupyterlab_ai_batch.oci.credentials import find_credentials

    return lambda repository: find_credentials(host, repository, files=[path], environ=environ)


@pytest.fixture
def tokens(authority):
    with TokenService(authority) as service:
        yield service


@pytest.fixture
def token_registry(tmp_path, tokens):
    with RegistryServer(tmp_path / "registry", tokens.extra) as running:
        yield running


def test_tokens_open_a_registry(token_registry, tokens):
    """One token for all of a Snapshot's requests, asked for with the password."""
    with open_registry(token_registry.host, find=lambda _: ADA) as store:
        digest = put_image(store, "latest", b"{}", *(f"layer {number}".encode() for number in range(20)))
        assert store.get_manifest("latest")[1] == digest
    assert tokens.asked == [("GET", USER, ["repository:team/work:pull,push"], "test registry")]


def test_a_refresh_token_opens_a_registry(token_registry, tokens):
    """It goes to the token service in a body, never in an address."""
    tokens.refresh_tokens[REFRESH] = USER
    with open_registry(token_registry.host, find=lambda _: Credentials(identity_token=REFRESH)) as store:
        put_image(store, "latest", b"{}")
    assert tokens.asked == [("POST", USER, ["repository:team/work:pull,push"], "test registry")]


def test_tokens_are_got_anew_when_they_expire(token_registry, tokens):
    """By the clock, without a request that fails."""
    now = [1000.0]
    with open_registry(token_registry.host, find=lambda _: ADA, clock=lambda: now[0]) as store:
        put_image(store, "first", b"{}")
        now[0] += 0.85 * tokens.life_s
        put_image(store, "second", b"{}")
        assert len(tokens.asked) == 1
        now[0] += 0.1 * tokens.life_s
        put_image(store, "third", b"{}")
        assert len(tokens.asked) == 2


def test_a_token_that_is_refused_is_got_anew(token_registry, tokens):
    """A registry may forget the keys of its tokens, or see another time."""
    real, bad = tokens.token, ["not.a.token"]
    tokens.token = lambda access: bad.pop() if bad else real(access)
    with open_registry(token_registry.host, find=lambda _: ADA) as store:
        put_image(store, "latest", b"{}")
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("password", [WRONG, None])
def test_who_may_not_push_is_told(token_registry, tokens, password):
    """A wrong password, and a right to nothing: registry_denied, after few requests."""
    shown = Credentials(username=USER, password=password) if password else Credentials()
    with open_registry(token_registry.host, find=lambda _: shown) as store:
        with pytest.raises(RegistryDeniedError) as caught:
            put_image(store, "latest", b"{}")
        assert WRONG not in repr((caught.value, caught.value.details, caught.value.hint))
    assert len(tokens.asked) <= 2


def test_deleting_needs_a_right_of_its_own(token_registry, tokens):
    """It is asked for only then."""
    with open_registry(token_registry.host, find=lambda _: ADA) as store:
        put_image(store, "latest", b"{}")
        store.delete_tag("latest")
        assert list(store.tags()) == []
    assert [scopes for _, _, scopes, _ in tokens.asked][1] == ["repository:team/work:delete"]


# TLS


def test_a_site_authority_is_trusted_where_it_is_named(tmp_path, authority):
    """By a file, by SSL_CERT_FILE, by the directory of container tools; and not without."""
    by_host = tmp_path / "certs.d"
    with tls_registry(tmp_path / "registry", authority) as server:
        own = by_host / server.host
        own.mkdir(parents=True)
        (own / "site.crt").write_bytes(authority.certificate.read_bytes())
        ways = (
            {"ca_file": authority.certificate},
            {"environ": {"SSL_CERT_FILE": str(authority.certificate)}},
            {"certificate_directories": (by_host,)},
        )
        for number, way in enumerate(ways):
            with open_registry(server.host, plain_http=False, **way) as store:
                put_image(store, f"way-{number}", b"{}", random_blob(3 * MIB))
        with open_registry(server.host, plain_http=False) as store, pytest.raises(RegistryError) as caught:
            store.get_manifest("way-0")
        assert "certificate" in caught.value.message
        assert not caught.value.retryable


def test_a_client_certificate_is_shown_where_it_is_kept(tmp_path, authority):
    """Beside the authority of its registry; without it, that registry lets nobody in."""
    with tls_registry(tmp_path / "registry", authority, clientcas=[str(authority.certificate)]) as server:
        own = tmp_path / "certs.d" / server.host
        own.mkdir(parents=True)
        certificate, key = authority.issue("client")
        for source, name in ((authority.certificate, "ca.crt"), (certificate, "me.cert"), (key, "me.key")):
            (own / name).write_bytes(source.read_bytes())
        with open_registry(server.host, plain_http=False, certificate_directories=(own.parent,)) as store:
            assert put_image(store, "latest", b"{}") == store.get_manifest("latest")[1]
        options = {"plain_http": False, "ca_file": authority.certificate, "retry": RetryPolicy(attempts=1)}
        with open_registry(server.host, **options) as store, pytest.raises(RegistryError):
            store.get_manifest("latest")


def test_a_certificate_file_that_is_none_is_named(tmp_path):
    """Before anything is sent."""
    broken = tmp_path / "broken.crt"
    broken.write_text("not a certificate")
    for path in (broken, tmp_path / "absent.crt"):
        with open_registry("registry.test", ca_file=path) as store, pytest.raises(RegistryError) as caught:
            store.has_blob(digest_of(b""))
        assert str(path) in caught.value.hint


def test_a_certificate_for_another_name_is_refused(tmp_path, authority):
    """Even where its authority is trusted."""
    certificate, key = authority.issue("other", "DNS:other.test")
    tls = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    with (
        RegistryServer(tmp_path / "registry", tls) as server,
        open_registry(server.host, plain_http=False, ca_file=authority.certificate) as store,
        pytest.raises(RegistryError, match="certificate"),
    ):
        store.has_blob(digest_of(b""))


def test_a_registry_elsewhere_needs_tls(tmp_path):
    """No setting, no plain http: the request goes out as https, or not at all."""
    with Proxy({}) as proxy:
        environ = {"http_proxy": f"http://{proxy.host}", "https_proxy": f"http://{proxy.host}"}
        once = RetryPolicy(attempts=1)
        registry = open_registry("registry.test:5000", environ=environ, retry=once)
        with registry as store, pytest.raises(RegistryUnreachableError):
            store.has_blob(digest_of(b""))
    assert proxy.asked == ["CONNECT registry.test:5000"]


# Proxies


class Proxy:
    """An HTTP proxy that finds hosts in ``hosts`` (name and port to a port here); a context manager."""

    def __init__(self, hosts, *, password=None):
        self.asked, self.passwords = [], []
        proxy = self

        class Handler(QuietHandler):
            def do_CONNECT(self):  # noqa: N802
                port = proxy._find(self, self.path)
                if port is not None:
                    self.send_response(200)
                    self.end_headers()
                    _join(self.connection, port)
                self.close_connection = True

            def do_HEAD(self):  # noqa: N802
                host = self.path.split("/")[2]
                port = proxy._find(self, host)
                if port is not None:
                    with socket.create_connection(("127.0.0.1", port)) as upstream:
                        rest = self.path.split(host, 1)[1]
                        upstream.sendall(f"{self.command} {rest} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                        while piece := upstream.recv(1 << 16):
                            self.wfile.write(piece)
                self.close_connection = True

        self._hosts, self._password = hosts, password
        self.server = Server(Handler)
        self.host = self.server.host

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()

    def _find(self, handler, host):
        self.asked.append(f"{handler.command} {host}")
        self.passwords.append(handler.headers.get("Proxy-Authorization"))
        if host not in self._hosts:
            handler.reply(502)
            return None
        return self._hosts[host]


def _join(client, port):
    with socket.create_connection(("127.0.0.1", port)) as upstream:

        def back():
            with contextlib.suppress(OSError):
                while piece := upstream.recv(1 << 16):
                    client.sendall(piece)

        thread = threading.Thread(target=back)
        thread.start()
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 16):
                upstream.sendall(piece)
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_registry_is_reached_through_a_proxy(tmp_path, authority):
    """CONNECT with the proxy's password; TLS ends at the registry; loopback and no_proxy go straight."""
    with tls_registry(tmp_path / "registry", authority) as server, Proxy({"registry.test:5000": server.port}) as proxy:
        environ = {"https_proxy": f"http://{USER}:some%20word@{proxy.host}"}
        with open_registry("registry.test:5000", environ=environ, ca_file=authority.certificate) as store:
            digest = put_image(store, "latest", b"{}", random_blob(2 * MIB))
            assert list(store.tags()) == [("latest", digest)]
        assert set(proxy.asked) == {"CONNECT registry.test:5000"}
        assert set(proxy.passwords) == {"Basic YWRhOnNvbWUgd29yZA=="}
        proxy.asked.clear()
        with open_registry(server.host, environ=environ, plain_http=False, ca_file=authority.certificate) as store:
            assert store.get_manifest("latest")[1] == digest
        excepted = {**environ, "NO_PROXY": "example.org, .test"}
        settings = {"environ": excepted, "retry": RetryPolicy(attempts=1)}
        with open_registry("registry.test:5000", **settings) as store, pytest.raises(RegistryUnreachableError):
            store.get_manifest("latest")
    assert proxy.asked == []


def test_plain_http_goes_through_a_proxy_where_it_is_allowed(server):
    """The proxy gets the whole address."""
    with Proxy({"registry.test:5000": server.port}) as proxy:
        environ = {"HTTP_PROXY": proxy.host}
        with open_registry("registry.test:5000", environ=environ, plain_http=True) as store:
            assert store.has_blob(digest_of(b"")) is False
    assert proxy.asked == ["HEAD registry.test:5000"]


# What is there is not sent


def test_what_is_there_is_not_sent(server):
    """A second user of the same repository, and of another that mounts from it, sends nothing."""
    layers = [random_blob(MIB) for _ in range(5)]
    with open_registry(server.host, "team/work") as store:
        digest = put_image(store, "first", b"{}", *layers)
        assert store.sent_bytes == 5 * MIB + 2
    with open_registry(server.host, "team/work") as store:
        assert put_image(store, "second", b"{}", *layers) == digest
        assert store.sent_bytes == 0
    with open_registry(server.host, "grace/work", mount_from=("team/none", "team/work", "grace/work")) as store:
        assert put_image(store, "first", b"{}", *layers) == digest
        assert store.sent_bytes == 0


def test_what_cannot_be_mounted_is_sent(server):
    """A neighbour without it costs one request, and leaves no upload behind."""
    with open_registry(server.host, "grace/work", mount_from=("team/work", "team/other")) as store:
        put_image(store, "first", b"{}", b"layer")
        assert store.sent_bytes == 7
    assert list(server.storage.glob("repositories/*/*/_uploads/*/startedat")) == []


def test_who_may_not_read_a_neighbour_sends(tmp_path, authority):
    """A mount that is denied is no failure."""
    with (
        TokenService(authority, allowed=lambda _, repository: repository == "grace/work") as tokens,
        RegistryServer(tmp_path / "registry", tokens.extra) as server,
        open_registry(server.host, "grace/work", mount_from=("team/work",), find=lambda _: ADA) as store,
    ):
        put_image(store, "first", b"{}", b"layer")
        assert store.sent_bytes == 7


def test_an_image_goes_from_registry_to_registry(tmp_path):
    """Once streamed; the second time nothing moves. Manifest, config and layers are equal bytes."""
    layers = [random_blob(size) for size in (5, 3 * MIB, 40 * MIB)]
    with RegistryServer(tmp_path / "one") as one, RegistryServer(tmp_path / "two") as two:
        with open_registry(one.host, "library/base") as source, open_registry(two.host, "team/base") as target:
            digest = put_image(source, "v1", b"{}", *layers)
            steps = []
            assert copy_image(source, target, "v1", tag="v1", progress=steps.append) == digest
            assert target.get_manifest("v1") == source.get_manifest("v1")
            assert copy_image(source, target, digest, tag="v1", progress=steps.append) == digest
            size = sum(map(len, layers)) + 2
            assert (steps[3].bytes_done, steps[3].bytes_moved, target.sent_bytes) == (size, size, size)
            assert (steps[7].bytes_done, steps[7].bytes_moved) == (size, 0)
        assert one.sent_blobs() == two.sent_blobs()


def test_a_layout_goes_to_a_registry_and_back(server, tmp_path):
    """The image layout on disk and the registry are the same kind of place."""
    here, there = ImageLayout(tmp_path / "here"), ImageLayout(tmp_path / "there")
    digest = put_image(here, "snapshot", b"{}", b"work", random_blob(2 * MIB))
    with open_registry(server.host) as store:
        assert copy_image(here, store, "snapshot", tag="pushed") == digest
        assert copy_image(store, there, digest, tag="pulled") == digest
    assert there.get_manifest("pulled") == here.get_manifest("snapshot")


# What breaks on the way


@pytest.mark.parametrize("size", [5 * MIB, 100 * MIB])
def test_a_torn_upload_is_sent_again(server, tmp_path, size):
    """Small blobs from memory, large ones from the file; a chunk's connection is cut in its middle, twice."""
    content = random_blob(size)
    with Wire(server.port, cut_after=min(3 * MIB, size // 2), cuts=2) as wire:
        with open_registry(wire.host, spool_directory=tmp_path / "spool") as store:
            digest = put_image(store, "latest", b"{}", content)
            with store.open_blob(digest_of(content)) as stream:
                assert digest_of(stream.read()) == digest_of(content)
        assert wire.cuts == 0
        assert wire.carried["up"] > size
    assert list((tmp_path / "spool").glob("*")) == []
    with open_registry(server.host) as store:
        assert store.get_manifest("latest")[1] == digest


def test_a_torn_download_is_taken_up(server):
    """From where it broke; the content is verified as a whole."""
    content = random_blob(20 * MIB)
    with open_registry(server.host) as store:
        put_image(store, "latest", b"{}", content)
    with Wire(server.port, cut_after=6 * MIB, cuts=3, direction="down") as wire, open_registry(wire.host) as store:
        with store.open_blob(digest_of(content)) as stream:
            assert stream.read() == content
        assert wire.cuts == 0
        assert wire.carried["down"] < 25 * MIB


def test_a_restart_in_the_middle_is_survived(server):
    """The registry is killed while a blob is sent, and comes back; nothing is lost."""
    contents = [random_blob(6 * MIB) for _ in range(8)]

    def restart():
        server.stop()
        server.start()

    with Wire(server.port, cut_after=4 * MIB, cuts=1, on_cut=restart) as wire:
        with open_registry(wire.host) as store:
            digest = put_image(store, "latest", b"{}", *contents)
        assert wire.cuts == 0
    with open_registry(server.host) as store:
        assert store.get_manifest("latest")[1] == digest
        assert all(store.has_blob(digest_of(content)) for content in contents)


def test_a_registry_that_is_gone_is_told(server):
    """registry_unreachable, retryable; also where it goes away in the middle, and a later try succeeds."""
    with open_registry(server.host, retry=RetryPolicy(attempts=2, first_delay_s=0.01)) as store:
        store.put_blob(b"first")
        store.flush()
        server.stop()
        store.put_blob(b"second")
        with pytest.raises(RegistryUnreachableError) as caught:
            store.flush()
        assert caught.value.retryable
        server.start()
        assert put_image(store, "latest", b"first", b"second")


def test_an_upload_that_failed_shows_at_the_next_call(tmp_path):
    """Nothing goes on as if it were there."""
    with htpasswd_registry(tmp_path / "registry") as server, open_registry(server.host) as store:
        digest, _ = store.put_blob(b"content")
        with pytest.raises(RegistryDeniedError):
            store.has_blob(digest)
        store.put_blob(b"content")
        with pytest.raises(RegistryDeniedError):
            store.put_manifest(manifest_of(b"content"), tag="latest", media_type=MANIFEST_MEDIA_TYPE)


def test_giving_up_ends_an_upload(server, tmp_path):
    """Leaving in the middle of sending does not wait for the rest, and leaves no file."""
    content = random_blob(64 * MIB)
    with Wire(server.port) as wire, open_registry(wire.host, spool_directory=tmp_path / "spool") as store:
        store.put_blob(content)
    assert list((tmp_path / "spool").iterdir()) == []
    assert hashlib.sha256(content).hexdigest() not in server.sent_blobs()


# Garbage collection


def test_garbage_collection_before_the_manifest_is_noticed(server):
    """A blob that went away is named; written again, the manifest succeeds. No tag ever names what is not whole."""
    with open_registry(server.host) as store:
        store.put_blob(b"{}")
        store.put_blob(b"layer")
        store.flush()
        server.collect_garbage()
        with pytest.raises(BlobMissingError) as caught:
            store.put_manifest(manifest_of(b"{}", b"layer"), tag="latest", media_type=MANIFEST_MEDIA_TYPE)
        assert set(caught.value.digests) == {digest_of(b"{}"), digest_of(b"layer")}
        assert list(store.tags()) == []
        digest = put_image(store, "latest", b"{}", b"layer")
        assert store.get_manifest("latest")[1] == digest
        assert store.read_blob(digest_of(b"layer"), limit_bytes=5) == b"layer"


def test_a_blob_that_a_full_disk_broke_is_mended(server):
    """The registry's note of it is empty: it fails at that blob until it is stored again."""
    with open_registry(server.host) as store:
        digest = put_image(store, "first", b"{}", b"layer")
    note = server.storage / f"repositories/team/work/_layers/sha256/{digest_of(b'layer').removeprefix('sha256:')}/link"
    assert note.stat().st_size > 0
    note.write_bytes(b"")
    with open_registry(server.host) as store:
        assert put_image(store, "second", b"{}", b"layer") == digest
        assert store.read_blob(digest_of(b"layer"), limit_bytes=5) == b"layer"


def test_a_copy_survives_garbage_collection(server, tmp_path):
    """What was collected between blobs and manifest is copied again."""
    source = ImageLayout(tmp_path / "layout")
    digest = put_image(source, "image", b"{}", b"layer")

    def collect_once(step):
        if step.blobs_done == step.blobs and not collected:
            store.flush()
            collected.append(server.collect_garbage())

    collected = []
    with open_registry(server.host) as store:
        assert copy_image(source, store, "image", tag="copied", progress=collect_once) == digest
        assert store.read_blob(digest_of(b"layer"), limit_bytes=5) == b"layer"
    assert len(collected) == 1


def test_a_registry_that_forbids_deletion_says_so(tmp_path):
    """And the tag goes on naming what it named."""
    extra = {"storage": {"filesystem": {"rootdirectory": str(tmp_path / "storage")}, "delete": {"enabled": False}}}
    with RegistryServer(tmp_path / "registry", extra) as server, open_registry(server.host) as store:
        digest = put_image(store, "latest", b"{}", b"layer")
        with pytest.raises(RegistryError, match="does not allow to delete"):
            store.delete_tag("latest")
        assert list(store.tags()) == [("latest", digest)]


def test_a_blob_is_copied_once(server, tmp_path):
    """copy_blob moves what is not there, and only that."""
    layout = ImageLayout(tmp_path / "layout")
    layout.put_blob(b"content")
    descriptor = Descriptor(media_type="", digest=digest_of(b"content"), size=7)
    with open_registry(server.host, "one") as one, open_registry(server.host, "two") as two:
        assert [copy_blob(layout, one, descriptor), copy_blob(layout, one, descriptor)] == [7, 0]
        assert copy_blob(one, two, descriptor) == 0
        assert two.read_blob(descriptor.digest, limit_bytes=7) == b"content"
