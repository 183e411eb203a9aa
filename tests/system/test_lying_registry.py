"""Registries that lie, and what stands between: nothing false is accepted, and no credential goes astray."""

import base64
import collections
import contextlib
import hashlib
import io
import itertools
import json
import traceback

import pytest

from jupyterlab_ai_batch.errors import (
    BatchError,
    BlobMissingError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
    SnapshotCorruptError,
)
from jupyterlab_ai_batch.oci.credentials import Credentials
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE, Descriptor
from jupyterlab_ai_batch.oci.transfer import copy_blob
from jupyterlab_ai_batch.oci.transport_settings import RetryPolicy
from tests.registries import PASSWORD, USER, Authority, QuietHandler, Server, open_registry

ADA = Credentials(username=USER, password=PASSWORD)
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CONTENT = b"the content of a blob " * 1000
BEARER_TOKEN = "only-for-the-registry"
SECRETS = (PASSWORD, BASIC.removeprefix("Basic "), BEARER_TOKEN)
IMPATIENT = RetryPolicy(attempts=3, first_delay_s=0.001)


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(*contents, **changes):
    config, *layers = (
        {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}
        for content in contents
    )
    fields = {"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config, "layers": layers}
    return json.dumps({**fields, **changes}).encode()


BLOB = f"/v2/team/work/blobs/{digest_of(CONTENT)}"
MANIFEST = manifest_of(b"{}", CONTENT)


class Actor:
    """A server that does what ``act`` does to each request, and remembers what it was sent; a context manager.

    Attributes:
        seen: (method, path, headers) of every request.
        sent: Everything that came in bodies.
    """

    def __init__(self, act, context=None):
        self.seen, self.sent = [], bytearray()
        actor = self

        class Handler(QuietHandler):
            def __getattr__(self, name):
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def _answer(self):
                actor.seen.append((self.command, self.path, dict(self.headers.items())))
                actor.sent.extend(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                act(self)

        self.server = Server(Handler, context)
        self.host, self.port = self.server.host, self.server.port

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()

    def headers(self, name):
        return [headers[name] for _, _, headers in self.seen if name in headers]

    def saw(self, text):
        return text in repr(self.seen) or text.encode() in self.sent


@contextlib.contextmanager
def lying(act, **options):
    """A Registry at an Actor."""
    with Actor(act) as liar, open_registry(liar.host, retry=IMPATIENT, **options) as store:
        yield store


def endless(handler, **headers):
    """A body in chunks that never ends."""
    handler.send_response(200)
    for name, value in {"Transfer_Encoding": "chunked", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while handler.command != "HEAD":
            handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def breaking_off(handler, content, announced):
    """Less than was announced."""
    handler.reply(200, content, Content_Length=announced)
    handler.close_connection = True


def redirect(handler, target):
    handler.reply(307, Location=target)


def not_found(handler):
    handler.reply(404, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')


def read_blob(store):
    with store.open_blob(digest_of(CONTENT)) as stream:
        return stream.read()


def list_tags(store):
    return list(store.tags())


def copy(store, tmp_path):
    layout = ImageLayout(tmp_path / "layout")
    try:
        copy_blob(store, layout, Descriptor(media_type="", digest=digest_of(CONTENT), size=len(CONTENT)))
    finally:
        assert not layout.has_blob(digest_of(CONTENT))
        assert [path for path in (tmp_path / "layout").rglob("*") if path.is_file() and path.parent.name == "tmp"] == []


# Lies about blobs


def lie_after_resuming(content_range):
    def act(handler):
        if "Range" in handler.headers:
            handler.reply(206, CONTENT[200:], Content_Range=content_range)
        else:
            breaking_off(handler, CONTENT[:100], len(CONTENT))

    return act


BLOB_LIES = {
    "other content": lambda h: h.reply(200, CONTENT.swapcase()),
    "one bit": lambda h: h.reply(200, bytes([CONTENT[0] ^ 1]) + CONTENT[1:]),
    "nothing": lambda h: h.reply(200),
    "too short": lambda h: h.reply(200, CONTENT[:-1]),
    "too long": lambda h: h.reply(200, CONTENT + b"x"),
    "announces less": lambda h: h.reply(200, CONTENT, Content_Length=len(CONTENT) - 1),
    "always breaks off": lambda h: breaking_off(h, CONTENT[:100], len(CONTENT)),
    "breaks off at once": lambda h: breaking_off(h, b"", len(CONTENT)),
    "endless": endless,
    "endless, with a length": lambda h: h.reply(200) if h.command == "HEAD" else endless(h),
    "negative length": lambda h: h.reply(200, CONTENT, Content_Length=-1),
    "length is no number": lambda h: h.reply(200, CONTENT, Content_Length="many"),
    "a page": lambda h: h.reply(200, b"<html>Log in first</html>", Content_Type="text/html"),
    "redirects in circles": lambda h: redirect(h, h.path),
    "redirects to a file": lambda h: redirect(h, "file:///etc/passwd"),
    "redirects to nowhere": lambda h: redirect(h, ""),
    "redirects to another scheme": lambda h: redirect(h, "gopher://127.0.0.1/x"),
    "redirects with a password": lambda h: redirect(h, "http://user:word@127.0.0.1/x"),
    "redirects to a bad port": lambda h: redirect(h, "http://127.0.0.1:99999/x"),
    "resumes elsewhere": lie_after_resuming("bytes 200-21999/22000"),
    "resumes with other size": lie_after_resuming("bytes 100-21999/50000"),
    "resumes with nonsense": lie_after_resuming("everything"),
    "resumes with other content": lie_after_resuming("bytes 100-21999/22000"),
    "not there": not_found,
    "forbids": lambda h: h.reply(403, b'{"errors": [{"code": "DENIED", "message": "no"}]}'),
    "wants what nobody has": lambda h: h.reply(401, WWW_Authenticate="Negotiate"),
    "fails": lambda h: h.reply(500),
    "a teapot": lambda h: h.reply(418, b"x" * 100),
    "no http": lambda h: (h.wfile.write(b"SSH-2.0-OpenSSH\r\n"), setattr(h, "close_connection", True)),
    "many headers": lambda h: h.reply(200, CONTENT, **{f"X_{number}": "x" for number in range(500)}),
}


@pytest.mark.parametrize("lie", BLOB_LIES)
def test_no_false_blob_is_accepted(lie, tmp_path):
    """Read, read with a limit, or copied: an error with a code, and nothing kept."""
    with Actor(BLOB_LIES[lie]) as liar, open_registry(liar.host, retry=IMPATIENT) as store:
        for use in (
            read_blob,
            lambda store: store.read_blob(digest_of(CONTENT), limit_bytes=len(CONTENT)),
            lambda store: copy(store, tmp_path),
        ):
            liar.seen.clear()
            with pytest.raises(BatchError) as caught:
                use(store)
            assert isinstance(caught.value, (RegistryError, SnapshotCorruptError))
            assert caught.value.message
            assert len(liar.seen) <= 20


# Lies about manifests

INDEX_OF_NOTHING = {"schemaVersion": 2, "manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}


def as_manifest(content, media_type=MANIFEST_MEDIA_TYPE, **headers):
    return lambda handler: handler.reply(200, content, Content_Type=media_type, **headers)


MANIFEST_LIES = {
    "another": as_manifest(manifest_of(b"other")),
    "says another digest": as_manifest(MANIFEST, Docker_Content_Digest=digest_of(b"other")),
    "a page": as_manifest(b"<html></html>", "text/html"),
    "a page that says it is one": as_manifest(b"<html></html>"),
    "without a type": as_manifest(MANIFEST, ""),
    "of the first format": as_manifest(MANIFEST, "application/vnd.docker.distribution.manifest.v1+json"),
    "too large": as_manifest(manifest_of(b"{}", padding="x" * (5 << 20))),
    "endless": lambda h: endless(h, Content_Type=MANIFEST_MEDIA_TYPE),
    "deep": as_manifest(b"[" * 100_000),
    "a list": as_manifest(b"[]"),
    "sizes that are none": as_manifest(manifest_of(b"{}", layers=[{"digest": digest_of(b""), "size": -1}])),
    "digests that are none": as_manifest(json.dumps(INDEX_OF_NOTHING).encode()),
    "too many layers": as_manifest(manifest_of(b"{}", layers=[{"digest": digest_of(b""), "size": 0}] * 5000)),
    "breaks off": lambda h: breaking_off(h, MANIFEST[:100], len(MANIFEST)),
    "not there": not_found,
}


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_no_false_manifest_is_accepted(lie):
    """Asked for by its digest."""
    with lying(MANIFEST_LIES[lie]) as store, pytest.raises((RegistryError, SnapshotCorruptError)):
        store.get_manifest(digest_of(MANIFEST))


@pytest.mark.parametrize("lie", [name for name in MANIFEST_LIES if name != "another"])
def test_no_impossible_manifest_is_accepted(lie):
    """Asked for by a tag, which may name any."""
    with lying(MANIFEST_LIES[lie]) as store, pytest.raises((RegistryError, SnapshotCorruptError)):
        store.get_manifest("latest")


# Lies while something is stored


def put_image(store):
    for content in (b"{}", LARGE):
        store.put_blob(content)
    return store.put_manifest(manifest_of(b"{}", LARGE), tag="latest", media_type=MANIFEST_MEDIA_TYPE)


class Storing:
    """A registry that takes everything, unless a request is one that ``lie`` answers."""

    def __init__(self, lie):
        self.lie = lie
        self.blobs, self.received, self.numbers = {}, collections.Counter(), itertools.count()

    def __call__(self, handler):
        if self.lie(handler) is not None:
            return
        if handler.command == "HEAD":
            digest = handler.path.rpartition("/")[2]
            size = self.blobs.get(digest)
            if size is None:
                handler.reply(404)
            else:
                handler.reply(200, Content_Length=size)
        elif handler.command == "POST":
            handler.reply(202, Location=f"/v2/team/work/blobs/uploads/{next(self.numbers)}")
        elif "manifests" in handler.path:
            handler.reply(201)
        else:
            self.take(handler)

    def take(self, handler):
        path, _, digest = handler.path.partition("digest=")
        session = path.rstrip("?&")
        self.received[session] += int(handler.headers["Content-Length"])
        if digest:
            self.blobs[digest] = self.received[session]
            handler.reply(201)
        else:
            handler.reply(202, Location=session, Range=f"0-{self.received[session] - 1}")


def when(method, part, answer):
    """Answer requests of this method and path, and leave others."""

    def lie(handler):
        if handler.command == method and part in handler.path:
            answer(handler)
            return True
        return None

    return lie


LARGE = b"x" * (40 << 20)
UNKNOWN = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": "%s"}}]}'
STORING_LIES = {
    "no session": when("POST", "uploads", lambda h: h.reply(202)),
    "a session in a file": when("POST", "uploads", lambda h: h.reply(202, Location="file:///etc/passwd")),
    "a session in a newline": when("POST", "uploads", lambda h: h.reply(202, Location="/v2/%0d%0aX\x01")),
    "refuses": when("POST", "uploads", lambda h: h.reply(405, b"{}")),
    "redirects": when("POST", "uploads", lambda h: redirect(h, "/v2/elsewhere/")),
    "too large for its web server": when("PUT", "uploads", lambda h: h.reply(413, b"<html>")),
    "forgets sessions": when("PUT", "uploads", lambda h: h.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')),
    "stores another": when("PUT", "uploads", lambda h: h.reply(201, Docker_Content_Digest=digest_of(b"other"))),
    "stores at the wrong place": when(
        "PATCH", "uploads", lambda h: h.reply(202, Location="/v2/team/work/blobs/uploads/1", Range="0-9")
    ),
    "says it has another": when("HEAD", "blobs", lambda h: h.reply(200, Docker_Content_Digest=digest_of(b"other"))),
    "says another size": when("HEAD", "blobs", lambda h: h.reply(200, Content_Length=7)),
    "never keeps": when("HEAD", "blobs", lambda h: h.reply(404)),
    "names it otherwise": when("PUT", "manifests", lambda h: h.reply(201, Docker_Content_Digest=digest_of(b"other"))),
    "misses a blob": when("PUT", "manifests", lambda h: h.reply(404, UNKNOWN % digest_of(LARGE).encode())),
    "misses what was not mentioned": when("PUT", "manifests", lambda h: h.reply(400, UNKNOWN % b"sha256:0")),
    "does not say what it misses": when("PUT", "manifests", lambda h: h.reply(404, UNKNOWN[:40] + b"}]}")),
    "does not like it": when("PUT", "manifests", lambda h: h.reply(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}')),
    "fails": when("PUT", "manifests", lambda h: h.reply(503)),
}


@pytest.mark.parametrize("lie", STORING_LIES)
def test_nothing_counts_as_stored_that_is_not(lie):
    """A Snapshot is complete, or there is an error."""
    with Actor(Storing(STORING_LIES[lie])) as liar, open_registry(liar.host, retry=IMPATIENT) as store:
        with pytest.raises((RegistryError, BlobMissingError)) as caught:
            put_image(store)
        if isinstance(caught.value, BlobMissingError):
            assert set(caught.value.digests) <= {digest_of(b"{}"), digest_of(LARGE)}
            assert caught.value.digests


def test_the_truth_is_accepted():
    """The same registry without a lie."""
    with Actor(Storing(lambda _: None)) as honest, open_registry(honest.host, retry=IMPATIENT) as store:
        assert put_image(store) == digest_of(manifest_of(b"{}", LARGE))
        assert [method for method, path, _ in honest.seen].count("PATCH") == 1


TAG_LIES = {
    "a page": lambda h: h.reply(200, b"<html>"),
    "no list": lambda h: h.reply(200, b'{"tags": 3}'),
    "goes on elsewhere": lambda h: h.reply(200, b'{"tags": []}', Link='<http://127.0.0.1:1/v2/>; rel="next"'),
    "goes on for ever": lambda h: h.reply(200, b'{"tags": []}', Link=f'<{h.path}>; rel="next"'),
    "endless": endless,
}


@pytest.mark.parametrize("lie", TAG_LIES)
def test_a_list_of_tags_has_an_end(lie):
    """And belongs to the registry."""
    with lying(TAG_LIES[lie]) as store, pytest.raises(RegistryError):
        list(store.tags())


def test_names_that_are_no_tags_are_left_out():
    """They would reach addresses."""
    names = ["good", "../evil", "a b", "", "x" * 200, 3, None, "also-good"]

    def act(handler):
        if "list" in handler.path:
            handler.reply(200, json.dumps({"tags": names}).encode())
        else:
            handler.reply(200, Docker_Content_Digest=digest_of(b"x"))

    with Actor(act) as liar, open_registry(liar.host) as store:
        assert list(store.tags()) == [("good", digest_of(b"x")), ("also-good", digest_of(b"x"))]
        assert not any("evil" in path for _, path, _ in liar.seen)


# Where credentials go


def asking_for(kind, realm, content=CONTENT):
    """A registry that wants ``kind`` of authorization, and then sends ``content`` or what that does."""

    def act(handler):
        shown = handler.headers.get("Authorization", "")
        if not shown.startswith(kind):
            handler.reply(
                401, WWW_Authenticate=f'{kind} realm="{realm()}",service="s",scope="repository:team/work:pull"'
            )
        elif callable(content):
            content(handler)
        else:
            handler.reply(200, content)

    return act


def giving_tokens(handler):
    handler.reply(200, json.dumps({"token": BEARER_TOKEN}).encode())


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_credential_follows_a_redirect(kind, status):
    """Blobs come from an object store elsewhere: another port is another place. It sees nothing of the user."""
    with Actor(lambda h: h.reply(200, CONTENT)) as elsewhere, Actor(giving_tokens) as tokens:

        def away(handler):
            handler.reply(status, Location=f"http://{elsewhere.host}/bucket?signature=x", Set_Cookie="session=1")

        with Actor(asking_for(kind, lambda: f"http://{tokens.host}/token", away)) as registry:
            with open_registry(registry.host, find=lambda _: ADA) as store:
                assert read_blob(store) == CONTENT
                assert store.has_blob(digest_of(CONTENT))
            expected = BASIC if kind == "Basic" else f"Bearer {BEARER_TOKEN}"
            assert set(registry.headers("Authorization")) == {expected}
    assert {path for _, path, _ in elsewhere.seen} == {"/bucket?signature=x"}
    assert not {"Authorization", "Cookie", "Proxy-Authorization"} & {
        name for _, _, headers in elsewhere.seen for name in headers
    }
    assert not any(elsewhere.saw(secret) for secret in SECRETS)


def test_a_redirect_that_asks_gets_no_credentials():
    """Neither the place, nor the token service that it names, nor the registry on the way back."""
    with Actor(giving_tokens) as harvester:
        realm = f'Bearer realm="http://{harvester.host}/token",service="s"'
        with Actor(lambda h: h.reply(401, WWW_Authenticate=realm)) as elsewhere:
            away = asking_for("Basic", lambda: "r", lambda h: redirect(h, f"http://{elsewhere.host}/x"))
            with lying(away, find=lambda _: ADA) as store, pytest.raises(RegistryDeniedError):
                read_blob(store)
        assert harvester.seen == []
        assert elsewhere.headers("Authorization") == []


def test_no_credential_comes_back_with_a_redirect():
    """Once away, a request stays without them."""
    with Actor(lambda h: redirect(h, back[0])) as elsewhere:
        away = asking_for("Basic", lambda: "r", lambda h: redirect(h, f"http://{elsewhere.host}/x"))

        def act(handler):
            if handler.path == "/trap":
                handler.reply(200, CONTENT)
            else:
                away(handler)

        with Actor(act) as registry:
            back = [f"http://{registry.host}/trap"]
            with open_registry(registry.host, find=lambda _: ADA) as store:
                assert read_blob(store) == CONTENT
            assert [
                headers for _, path, headers in registry.seen if path == "/trap" and "Authorization" in headers
            ] == []


def test_an_upload_elsewhere_gets_no_credentials():
    """A registry may send uploads to another host; the user's password stays."""
    blobs = Storing(lambda _: None)
    with Actor(blobs) as elsewhere:
        away = when("POST", "uploads", lambda h: h.reply(202, Location=f"http://{elsewhere.host}/session"))
        with lying(asking_for("Basic", lambda: "r", Storing(away)), find=lambda _: ADA) as store:
            store.put_blob(CONTENT)
            store.flush()
        assert elsewhere.sent == CONTENT
        assert elsewhere.headers("Authorization") == []


@pytest.mark.parametrize(
    "realm",
    ["http://token.test/token", "ftp://127.0.0.1/", "", "//", "http://a:b@127.0.0.1/", "http://127.0.0.1/#x", "x"],
)
def test_a_token_service_without_tls_gets_nothing(realm):
    """Elsewhere than on this machine."""
    with Actor(asking_for("Bearer", lambda: realm)) as registry:
        with open_registry(registry.host, find=lambda _: ADA) as store, pytest.raises(RegistryError) as caught:
            store.has_blob(digest_of(CONTENT))
        assert not isinstance(caught.value, RegistryUnreachableError)
        assert registry.headers("Authorization") == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_is_not_left(authority):
    """A redirect, a token service, an upload or a next page without TLS are refused where the registry has it."""
    with Actor(giving_tokens) as plain:
        address = f"http://{plain.host}/x"
        acts = {
            read_blob: lambda h: redirect(h, address),
            list_tags: asking_for("Bearer", lambda: address),
            put_image: lambda h: (
                h.reply(404) if h.command == "HEAD" else h.reply(202, Location="http://elsewhere.test/x")
            ),
        }
        for use, act in acts.items():
            with Actor(act, authority.server_context()) as registry:
                options = {"plain_http": False, "ca_file": authority.certificate, "retry": IMPATIENT}
                with open_registry(registry.host, find=lambda _: ADA, **options) as store, pytest.raises(RegistryError):
                    use(store)
        assert plain.seen == []


def test_an_upload_whose_address_forgot_tls_keeps_it(authority):
    """Behind a proxy that ends TLS, registries name http addresses of their own host."""
    lie = when("POST", "uploads", lambda h: h.reply(202, Location="http://127.0.0.1/session?s=2"))
    with Actor(Storing(lie), authority.server_context()) as registry:
        options = {"plain_http": False, "ca_file": authority.certificate}
        with open_registry(registry.host, **options) as store:
            store.put_blob(CONTENT)
            store.flush()
        assert ("PUT", f"/session?s=2&digest={digest_of(CONTENT)}") in [request[:2] for request in registry.seen]


TOKEN_LIES = {
    "a page": lambda h: h.reply(200, b"<html>"),
    "no token": lambda h: h.reply(200, b"{}"),
    "a number": lambda h: h.reply(200, b'{"token": 3}'),
    "a list": lambda h: h.reply(200, b"[]"),
    "a header": lambda h: h.reply(200, b'{"token": "x\\r\\nHost: evil"}'),
    "endless": endless,
    "redirects": lambda h: redirect(h, "/elsewhere"),
    "fails": lambda h: h.reply(500),
    "denies": lambda h: h.reply(403, b"{}"),
    "lives for ever": lambda h: h.reply(200, b'{"token": "x", "expires_in": "NaN and so on"}'),
}


@pytest.mark.parametrize("lie", TOKEN_LIES)
def test_no_false_token_is_used(lie):
    """The registry is not asked with it."""
    with Actor(TOKEN_LIES[lie]) as tokens, Actor(asking_for("Bearer", lambda: f"http://{tokens.host}/")) as registry:
        options = {"find": lambda _: ADA, "retry": IMPATIENT}
        with open_registry(registry.host, **options) as store, pytest.raises(RegistryError):
            store.has_blob(digest_of(CONTENT))
        assert registry.headers("Authorization") == []


def test_nothing_secret_shows_in_an_error():
    """Also where a registry repeats what it was sent."""

    def echo(handler):
        message = f"you said {handler.headers.get('Authorization', 'nothing')}"
        handler.reply(400, json.dumps({"errors": [{"code": "X", "message": message}]}).encode())

    for kind in ("Basic", "Bearer"):
        with (
            Actor(giving_tokens) as tokens,
            Actor(asking_for(kind, lambda: f"http://{tokens.host}/", echo)) as registry,
        ):
            with open_registry(registry.host, find=lambda _: ADA) as store, pytest.raises(RegistryError) as caught:
                read_blob(store)
            shown = io.StringIO()
            traceback.print_exception(caught.value, file=shown)
            shown.write(repr((caught.value.details, caught.value.hint, store)))
            assert not any(secret in shown.getvalue() for secret in SECRETS)
            assert caught.value.details["codes"] == ["X"]


def test_a_challenge_may_be_anything():
    """Garbage in WWW-Authenticate is a denial, in little time."""
    challenges = [
        "", "Bearer", "Basic", "Bearer realm", 'Bearer realm="', 'Bearer realm="\\', "=", ",,,", "Bearer =x", "\x01",
        'Bearer realm="x' + '\\"' * 3000, "a=" * 4000, 'a="' * 3000, " " * 8000, "Bearer " + "a=aa" * 2000,
    ]  # fmt: skip
    for challenge in challenges:
        act = lambda h, shown=challenge: h.reply(401, WWW_Authenticate=shown)  # noqa: E731
        with lying(act) as store, pytest.raises(RegistryError):
            store.has_blob(digest_of(CONTENT))


# Patience


def failing(times, *answers):
    """Gives each of ``answers`` in turn, ``times`` requests long, then what is asked for."""
    left = [answer for answer in answers for _ in range(times)]
    return lambda handler: left.pop(0)(handler) if left else handler.reply(200, CONTENT)


def cut(handler):
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "pauses"),
    [
        (lambda h: h.reply(503), [0.05, 0.1]),
        (lambda h: h.reply(500), [0.05, 0.1]),
        (cut, [0.05, 0.1]),
        (lambda h: h.reply(429, Retry_After=3), [3.0, 3.0]),
        (
            lambda h: h.reply(429, Retry_After="Sun, 22 Nov 2026 10:00:07 GMT", Date="Sun, 22 Nov 2026 10:00:00 GMT"),
            None,
        ),
        (lambda h: h.reply(429, Retry_After="soon"), [0.05, 0.1]),
        (lambda h: h.reply(429, Retry_After="-5"), [0.05, 0.1]),
    ],
)
def test_a_busy_registry_is_asked_again(answer, pauses):
    """After growing pauses, or the one that it asks for."""
    slept = []
    with Actor(failing(2, answer)) as registry, open_registry(registry.host, sleep=slept.append) as store:
        assert read_blob(store) == CONTENT
    if pauses is not None:
        assert [wanted <= paused <= 2 * wanted for wanted, paused in zip(pauses, slept, strict=True)] == [True, True]
    assert len(slept) == 2


def test_patience_ends():
    """A registry that stays busy, and one that asks for a day."""
    slept = []
    with Actor(lambda h: h.reply(503)) as registry:
        options = {"retry": RetryPolicy(attempts=4), "sleep": slept.append}
        with open_registry(registry.host, **options) as store, pytest.raises(RegistryUnreachableError) as caught:
            read_blob(store)
        assert (len(registry.seen), len(slept), caught.value.retryable) == (4, 3, True)
    with Actor(lambda h: h.reply(429, Retry_After=86400)) as registry:
        waiting = pytest.raises(RegistryUnreachableError, match="for a while")
        with open_registry(registry.host, sleep=slept.append) as store, waiting as caught:
            read_blob(store)
        assert (len(registry.seen), caught.value.details["retry_after_s"]) == (1, 86400.0)


def test_what_is_refused_is_not_asked_again():
    """Denials and defects come back the same."""
    for status in (400, 403, 405, 418):
        with Actor(lambda h, code=status: h.reply(code, b"{}")) as registry:
            with open_registry(registry.host) as store, pytest.raises(RegistryError):
                read_blob(store)
            assert len(registry.seen) == 1
