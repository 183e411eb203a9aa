"""Real registries on loopback: ``docker-registry`` in the ways that sites run it, and a wire to it that can be cut."""

import base64
import contextlib
import http.server
import json
import secrets
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from jupyterlab_ai_batch.oci.registry import Registry
from jupyterlab_ai_batch.oci.transport import Transport
from jupyterlab_ai_batch.oci.transport_settings import RetryPolicy, TransportSettings
from tests.programs import program

USER, PASSWORD = "ada", "open sesame"
_HTPASSWD = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"  # bcrypt, which is all that it takes
WAIT_S = 30.0
EMPTY_CONFIG = {"mediaType": "application/vnd.oci.empty.v1+json"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)


@dataclass
class RegistryServer:
    """A registry with its storage in ``directory``; a context manager. ``extra`` is merged into its configuration."""

    directory: Path
    extra: dict = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    @property
    def config(self):
        return self.directory / "config.yml"

    @property
    def storage(self):
        return self.directory / "storage/docker/registry/v2"

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": secrets.token_hex(8)},
        }
        for key, value in self.extra.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        self.config.write_text(json.dumps(config))  # JSON is YAML
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        with (self.directory / "log.txt").open("ab") as log:
            command = [program("docker-registry"), "serve", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._accepts, f"docker-registry; {self.directory}/log.txt says why")

    def stop(self):
        if self.process is not None:
            self.process.kill()  # as a power cut would
            self.process.wait()
            self.process = None

    def collect_garbage(self):
        """What an admin runs by night; done to a running registry it removes what no manifest names yet."""
        command = [program("docker-registry"), "garbage-collect", str(self.config)]
        subprocess.run(command, check=True, capture_output=True)

    def sent_blobs(self):
        return {path.parent.name for path in self.storage.glob("blobs/sha256/*/*/data")}

    def _accepts(self):
        assert self.process.poll() is None, (self.directory / "log.txt").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def htpasswd_registry(directory):
    directory.mkdir(parents=True)
    (directory / "htpasswd").write_text(f"{USER}:{_HTPASSWD}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    return RegistryServer(directory, {"auth": auth})


def tls_registry(directory, authority, **more):
    certificate, key = authority.issue("registry")
    return RegistryServer(directory, {"http": {"tls": {"certificate": str(certificate), "key": str(key), **more}}})


class Authority:
    """A certificate authority of a site; its certificates are for names that only tests use, and for loopback."""

    NAMES = "DNS:localhost,DNS:registry.test,IP:127.0.0.1"

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate = directory / "authority.crt"
        self.key = directory / "authority.key"
        self._openssl(
            "req", "-x509", "-days", "2", "-subj", "/CN=test authority", *self._new_key(self.key), "-out",
            self.certificate, "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
            "keyUsage=critical,keyCertSign,digitalSignature",
        )  # fmt: skip

    def issue(self, name, alternatives=NAMES):
        certificate, key, request = (self.directory / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
        )
        self._openssl("req", "-new", "-subj", f"/CN={name}", *self._new_key(key), "-out", request)
        self._openssl(
            "x509", "-req", "-days", "2", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-out", certificate, "-extfile", extensions,
        )  # fmt: skip
        return certificate, key

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server"))
        return context

    def sign(self, content):
        """ECDSA over SHA-256, as the two numbers of 32 bytes each that JSON Web Tokens want."""
        command = [program("openssl"), "dgst", "-sha256", "-sign", str(self.key)]
        der = subprocess.run(command, input=content, check=True, capture_output=True).stdout
        first = 4 + der[3]
        r, s = der[4:first], der[first + 2 :]
        return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (r, s))

    def _new_key(self, path):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)

    def _openssl(self, *arguments):
        subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True)


class TokenService:
    """Gives tokens for what ``allowed(user, repository)`` says; a context manager.

    Attributes:
        asked: (method, user or None, scopes, service) of every request, in order.
        refresh_tokens: Users by their identity tokens.
    """

    def __init__(self, authority, *, allowed=lambda user, repository: user == USER):
        self.authority = authority
        self.allowed = allowed
        self.asked = []
        self.refresh_tokens = {}
        self.life_s = 300
        service = self

        class Handler(QuietHandler):
            def do_GET(self):
                service.answer(self, parse_qs(urlsplit(self.path).query), service.user_of(self))

            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                user = service.refresh_tokens.get(form["refresh_token"][0])
                service.answer(self, {**form, "scope": form["scope"][0].split()}, user)

        self.server = Server(Handler)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()

    @property
    def extra(self):
        """For the configuration of a registry."""
        token = {
            "realm": f"http://{self.server.host}/token",
            "service": "test registry",
            "issuer": "test issuer",
            "rootcertbundle": str(self.authority.certificate),
        }
        return {"auth": {"token": token}}

    def user_of(self, handler):
        kind, _, encoded = handler.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        return user if password == PASSWORD else "nobody"

    def answer(self, handler, query, user):
        scopes = query.get("scope", [])
        self.asked.append((handler.command, user, scopes, query["service"][0]))
        if user == "nobody":
            handler.reply(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}')
            return
        access = []
        for scope in scopes:
            kind, repository, actions = scope.split(":")
            if self.allowed(user, repository):
                access.append({"type": kind, "name": repository, "actions": actions.split(",")})
        handler.reply(200, json.dumps({"token": self.token(access), "expires_in": self.life_s}).encode())

    def token(self, access):
        certificate = "".join(self.authority.certificate.read_text().splitlines()[1:-1])
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [certificate]}
        claims = {
            "iss": "test issuer", "aud": "test registry", "sub": "", "access": access, "jti": secrets.token_hex(4),
            "iat": now - 5, "nbf": now - 5, "exp": now + self.life_s,
        }  # fmt: skip
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return b".".join([signed, _base64url(self.authority.sign(signed))]).decode()


def _base64url(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


class QuietHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, content=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if not {"Content_Length", "Transfer_Encoding"} & set(headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class Server:
    """An HTTP server in threads of this process; connections that clients broke are no news."""

    class _Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    def __init__(self, handler, context=None):
        self._server = self._Quiet(("127.0.0.1", 0), handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Wire:
    """Passes connections on to ``port``, until one of them has carried ``cut_after`` bytes in one direction.

    Attributes:
        cuts: How many connections are still to be cut.
        bytes_per_s: How fast each of them is; 0: as fast as it can.
        on_cut: Called at each cut.
    """

    def __init__(self, port, *, cut_after=0, cuts=0, direction="up", on_cut=lambda: None):
        self.target = port
        self.cut_after = cut_after
        self.cuts = cuts
        self.bytes_per_s = 0
        self.direction = direction
        self.on_cut = on_cut
        self.carried = {"up": 0, "down": 0}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = (client, server)
            for source, sink, direction in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._carry, args=(source, sink, direction, pair), daemon=True).start()

    def _carry(self, source, sink, direction, pair):
        carried = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                carried += len(piece)
                self.carried[direction] += len(piece)
                if direction == self.direction and self._must_cut(carried):
                    self.on_cut()
                    break
                if self.bytes_per_s:
                    time.sleep(len(piece) / self.bytes_per_s)
                sink.sendall(piece)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _must_cut(self, carried):
        with self._lock:
            if self.cuts and carried > self.cut_after:
                self.cuts -= 1
                return True
        return False


@contextlib.contextmanager
def open_registry(host, name="team/work", **options):
    """A Registry that pauses only shortly before it tries again."""
    settings = {"retry": RetryPolicy(first_delay_s=0.05, longest_delay_s=0.5)}
    for key in ("plain_http", "ca_file", "certificate_directories", "environ", "retry", "read_timeout_s"):
        if key in options:
            settings[key] = options.pop(key)
    transport_options = {key: options.pop(key) for key in ("find", "sleep", "clock") if key in options}
    transport = Transport(host, settings=TransportSettings(**settings), **transport_options)
    with Registry(transport, name, **options) as registry:
        yield registry
