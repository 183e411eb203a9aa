"""The client of the cluster's API against a server on loopback that behaves in every way but well."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from jupyterlab_ai_batch.errors import (
    AdmissionRefusedError,
    QueueError,
    QueueForbiddenError,
    QueueTimeoutError,
    QueueUnreachableError,
)
from jupyterlab_ai_batch.queues.kueue.api import JOBS, PODS, ChangeKind
from jupyterlab_ai_batch.queues.kueue.api_client import KubernetesApi
from jupyterlab_ai_batch.queues.kueue.api_connection import ConnectionSettings

RBAC = 'jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot list resource "jobs" in API group "batch"'
POD_SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


class Server:
    """Answers every request with what the test put into ``answers``, in order; the last one again and again."""

    def __init__(self):
        self.answers = []
        self.requests = []
        self.token = None

    async def handle(self, request):
        await request.read()
        self.requests.append(request)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            return await answer(request)
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("Content-")}
        return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type, headers=headers)


def status(code, message="", *, headers=None, **details):
    body = {"kind": "Status", "code": code, "message": message, "details": details}
    return web.json_response(body, status=code, headers=headers)


def page(names, **metadata):
    items = [{"metadata": {"name": name}} for name in names]
    return web.json_response({"kind": "List", "metadata": metadata, "items": items})


def stream(*chunks, then="end"):
    async def answer(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() + b"\n")
        if then == "hang":
            await asyncio.sleep(60)
        if then == "break":
            request.transport.abort()
        return response

    return answer


def event(kind, name, version="7"):
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


@asynccontextmanager
async def served(directory, **settings):
    """A server, and a client of it."""
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (directory / "token").write_text("first")
    (directory / "config").write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{port}")))
    api = KubernetesApi(ConnectionSettings(namespace="alice", kubeconfig=directory / "config", **settings))
    try:
        yield server, api
    finally:
        await api.close()
        await runner.cleanup()


def kubeconfig(address):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
    }


def run(story):
    asyncio.run(asyncio.wait_for(story, 60))


async def changes_of(api, limit=100, into=None):
    found = [] if into is None else into
    async with aclosing(api.watch(JOBS, version="5", labels="a=b")) as changes:
        async for change in changes:
            found.append((change.kind, change.version))
            if len(found) == limit:
                break
    return found


def test_reads_and_writes_plain_json(tmp_path):
    """Paths, selectors, bodies and dry runs are those of the Kubernetes API; absent and present are values."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [web.json_response({"metadata": {"name": "a"}})]
            assert {"metadata": {"name": "a"}} == await api.get(JOBS, "a/../b?c")
            assert "/apis/batch/v1/namespaces/alice/jobs/a%2F..%2Fb%3Fc" == server.requests[-1].rel_url.raw_path
            await api.create(PODS, {"metadata": {"name": "p"}}, dry_run=True)
            assert ("/api/v1/namespaces/alice/pods", "All") == (
                server.requests[-1].path,
                server.requests[-1].query["dryRun"],
            )
            assert await api.delete(JOBS, "a", uid="u", foreground=True)
            server.answers = [status(404)]
            assert await api.get(JOBS, "a") is None
            assert not await api.delete(JOBS, "a", uid="u")
            server.answers = [status(409)]
            assert await api.create(JOBS, {"metadata": {"name": "a"}}) is None
            assert not await api.delete(JOBS, "a", uid="u")
            assert "Bearer first" == server.requests[-1].headers["Authorization"]

    run(story())


def test_lists_page_by_page(tmp_path):
    """Pages are put together; when they stop belonging together, the list begins again."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [page("ab", **{"continue": "x"}), page("c", resourceVersion="9")]
            listing = await api.list(JOBS, labels="a=b")
            assert (["a", "b", "c"], "9") == ([item["metadata"]["name"] for item in listing.items], listing.version)
            assert ["", "x"] == [request.query.get("continue", "") for request in server.requests]
            assert {"a=b"} == {request.query["labelSelector"] for request in server.requests}
            server.answers = [page("a", **{"continue": "x"}), status(410), page("b", resourceVersion="12")]
            assert "12" == (await api.list(JOBS)).version
            server.answers = [status(410)]
            with pytest.raises(QueueUnreachableError):
                await api.list(JOBS)

    run(story())


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (status(403, RBAC), QueueForbiddenError, "may not list jobs.batch in the namespace alice"),
        (status(401, "Unauthorized"), QueueForbiddenError, "credentials"),
        (status(500, "failed calling webhook"), QueueUnreachableError, "failed calling webhook"),
        (status(503), QueueUnreachableError, "503"),
        (status(504), QueueTimeoutError, "in time"),
        (status(400, "bad\nselector"), QueueError, "bad selector"),
        (web.Response(text="<html>", content_type="text/html"), QueueUnreachableError, "no sense"),
        (web.Response(text="[" * 100_000), QueueUnreachableError, "no sense"),
        (web.Response(text="[1]"), QueueUnreachableError, "no sense"),
        (web.Response(status=502, text="<html>" * 50_000), QueueUnreachableError, "502"),
    ],
)
def test_refusals_are_our_errors(tmp_path, answer, error, said):
    """Whatever comes instead of a list is one of our errors, on one line, with the verb and the resource."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [answer]
            with pytest.raises(error) as raised:
                await api.list(JOBS)
            assert error is type(raised.value)
            assert said in raised.value.message
            assert "\n" not in raised.value.message
            assert ("list", "jobs.batch") == (raised.value.details["verb"], raised.value.details["resource"])

    run(story())


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (403, POD_SECURITY, AdmissionRefusedError),
        (422, "Job is invalid: spec.template", AdmissionRefusedError),
        (400, "admission webhook denied the request", AdmissionRefusedError),
        (403, RBAC.replace("list", "create"), QueueForbiddenError),
        (404, 'namespaces "alice" not found', QueueUnreachableError),
    ],
)
def test_what_a_creation_meets(tmp_path, code, message, error):
    """Rules refuse with their own words; a missing right is told apart; a namespace that is new is asked again."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [status(code, message)]
            with pytest.raises(error) as raised:
                await api.create(PODS, {"metadata": {"name": "x"}}, dry_run=True)
            assert error is type(raised.value)
            if error is AdmissionRefusedError:
                assert message in raised.value.message

    run(story())


def test_waits_when_it_is_asked_to(tmp_path):
    """A 429 is asked again after the time that it names; one that names an hour is told."""

    async def story():
        async with served(tmp_path) as (server, api):
            waited = []

            async def sleep(seconds):
                waited.append(seconds)

            api._sleep = sleep
            server.answers = [status(429, headers={"Retry-After": "2"}), page("a", resourceVersion="1")]
            assert 1 == len((await api.list(JOBS)).items)
            assert [2.0] == waited
            server.answers = [status(429, retryAfterSeconds=3600)]
            with pytest.raises(QueueUnreachableError) as raised:
                await api.list(JOBS)
            assert (3600.0, [2.0]) == (raised.value.details["retry_after_s"], waited)

    run(story())


def test_nobody_answers(tmp_path):
    """No server, a server that hangs, one that hangs up: unreachable, or too late."""

    async def story():
        async with served(tmp_path, request_timeout_s=0.3) as (server, api):

            async def hang(_request):
                await asyncio.sleep(60)

            async def hang_up(request):
                request.transport.abort()
                return web.Response()

            server.answers = [hang]
            with pytest.raises(QueueTimeoutError):
                await api.get(JOBS, "a")
            server.answers = [hang_up]
            with pytest.raises(QueueUnreachableError):
                await api.get(JOBS, "a")
            server.answers = [stream(b'{"metadata"', then="hang")]
            with pytest.raises(QueueTimeoutError):
                await api.get(JOBS, "a")
        (tmp_path / "config").write_text(json.dumps(kubeconfig("http://127.0.0.1:9")))
        nobody = KubernetesApi(ConnectionSettings(namespace="alice", kubeconfig=tmp_path / "config"))
        with pytest.raises(QueueUnreachableError):
            await nobody.get(JOBS, "a")
        await nobody.close()

    run(story())


def test_watch_tells_what_happens(tmp_path):
    """Events in order, whatever pieces they come in; unknown object fields do no harm."""

    async def story():
        async with served(tmp_path) as (server, api):
            lines = b"".join(
                json.dumps(one).encode() + b"\n"
                for one in (event("ADDED", "a", "6"), event("MODIFIED", "a", "8"), event("DELETED", "a", "9"))
            )
            server.answers = [
                stream(*(lines[at : at + 7] for at in range(0, len(lines), 7)), event("BOOKMARK", "", "11"))
            ]
            assert [
                (ChangeKind.OPENED, ""),
                (ChangeKind.PRESENT, "6"),
                (ChangeKind.PRESENT, "8"),
                (ChangeKind.GONE, "9"),
                (ChangeKind.BOOKMARK, "11"),
            ] == await changes_of(api)
            query = server.requests[-1].query
            assert ("1", "true", "5", "a=b") == tuple(
                query[name] for name in ("watch", "allowWatchBookmarks", "resourceVersion", "labelSelector")
            )

    run(story())


@pytest.mark.parametrize(
    "answer",
    [
        status(410, "too old"),
        stream({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}),
    ],
)
def test_watch_of_a_version_that_is_gone(tmp_path, answer):
    """A version that is too old is a value: the caller lists again."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [answer]
            assert (ChangeKind.EXPIRED, "") == (await changes_of(api))[-1]

    run(story())


@pytest.mark.parametrize(
    ("answer", "error", "heard"),
    [
        (stream(event("ADDED", "a"), then="break"), QueueUnreachableError, 2),
        (stream(event("ADDED", "a"), b"garbage\n"), QueueUnreachableError, 2),
        (stream(event("ADDED", "a"), b'{"type": "ADDED"}\n'), QueueUnreachableError, 2),
        (stream(event("NEWKIND", "a")), QueueUnreachableError, 1),
        (stream({"type": "ERROR", "object": {"code": 500, "message": "etcd is gone"}}), QueueUnreachableError, 1),
        (status(403, RBAC.replace("list", "watch")), QueueForbiddenError, 0),
    ],
)
def test_watch_that_breaks(tmp_path, answer, error, heard):
    """What came before is told, then the error; half a line is never an event."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [answer]
            found = []
            with pytest.raises(error):
                await changes_of(api, into=found)
            assert heard == len(found)

    run(story())


def test_watch_line_without_end(tmp_path, monkeypatch):
    """A line that does not end fills no memory."""
    monkeypatch.setattr("jupyterlab_ai_batch.queues.kueue.api_client.MAX_CHANGE_BYTES", 1000)

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [stream(*[b"x" * 500] * 10, then="hang")]
            with pytest.raises(QueueUnreachableError):
                await changes_of(api)

    run(story())


def test_watch_is_let_go(tmp_path):
    """Closing a watch that nothing comes from takes no time."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [stream(event("ADDED", "a"), then="hang")]
            assert 2 == len(await changes_of(api, limit=2))

    run(story())


def test_log_is_a_stream_of_bytes(tmp_path):
    """A log comes as it is; a pod without one yields nothing at all."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [stream(b"2026-11-20T10:00:00Z one\n2026", b"-11-20T10:00:01Z two\n")]
            pieces = [piece async for piece in api.stream_log("pod", since="2026-11-20T10:00:00Z")]
            assert (b"", b"2026-11-20T10:00:00Z one\n2026-11-20T10:00:01Z two\n") == (pieces[0], b"".join(pieces))
            query = server.requests[-1].query
            assert ("true", "true", "2026-11-20T10:00:00Z") == (
                query["follow"],
                query["timestamps"],
                query["sinceTime"],
            )
            for code in (404, 400):
                server.answers = [status(code, "waiting to start")]
                assert [] == [piece async for piece in api.stream_log("pod", follow=False)]

    run(story())


def test_positions_that_nobody_tells(tmp_path):
    """An API that is missing, forbidden or restarting gives no positions; the rest is an error."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [web.json_response({"items": [{"priority": 0}, 7]})]
            assert [{"priority": 0}] == list(await api.pending_workloads("batch"))
            assert server.requests[-1].path.endswith("/namespaces/alice/localqueues/batch/pendingworkloads")
            for code in (403, 404, 503):
                server.answers = [status(code)]
                assert await api.pending_workloads("batch") is None
            server.answers = [status(500)]
            with pytest.raises(QueueUnreachableError):
                await api.pending_workloads("batch")

    run(story())


def test_rights_are_asked_for(tmp_path):
    """A right is what the cluster allows, and nothing else."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [web.json_response({"status": {"allowed": True}})]
            assert await api.may("create", JOBS)
            body = json.loads((await server.requests[-1].read()).decode())
            assert {
                "verb": "create",
                "group": "batch",
                "resource": "jobs",
                "subresource": "",
                "namespace": "alice",
            } == (body["spec"]["resourceAttributes"])
            server.answers = [web.json_response({"status": {"allowed": "yes"}})]
            assert not await api.may("create", JOBS)

    run(story())


def test_a_replaced_token_is_read_again(tmp_path):
    """A token that is no longer taken is read anew, once; then the request goes through."""

    async def story():
        async with served(tmp_path) as (server, api):
            server.answers = [page("a", resourceVersion="1")]
            server.token = "first"
            await api.list(JOBS)
            (tmp_path / "token").write_text("second")
            server.token = "second"
            await api.list(JOBS)
            server.token = "third"
            with pytest.raises(QueueForbiddenError):
                await api.list(JOBS)
            assert 5 == len(server.requests)

    run(story())


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"contexts": 3}', json.dumps({"current-context": "x", "contexts": []})]
)
def test_unusable_kubeconfig(tmp_path, content):
    """A kubeconfig that is none is an error that names the file, not a crash."""

    async def story():
        (tmp_path / "config").write_text(content)
        api = KubernetesApi(ConnectionSettings(namespace="alice", kubeconfig=tmp_path / "config"))
        with pytest.raises(QueueError) as raised:
            await api.get(JOBS, "a")
        assert str(tmp_path / "config") in raised.value.hint

    run(story())


def test_no_service_account(tmp_path):
    """Outside of a pod, and without a kubeconfig, it says what is missing."""

    async def story():
        api = KubernetesApi(ConnectionSettings(namespace="alice", service_account=tmp_path))
        with pytest.raises(QueueError, match="credentials"):
            await api.get(JOBS, "a")

    run(story())
