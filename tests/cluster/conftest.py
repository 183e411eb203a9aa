"""Fixtures of the cluster tests: ``cluster``, ``namespace``, ``kueue``, ``registry``, ``testbed``.

They run where ``kubectl`` would: inside our own cluster (``make test-cluster``), or against the one that KUBECONFIG
names. What a test made is gone after it; when it fails, its namespaces are shown first.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from testbed.instance import inside
from testbed.push import open_repository

from .hub import PROFILE, Session, Start, start_session
from .queues import Kueue
from .reach import Cluster, Namespace, Testbed, testbed_directory, unique, wait_for

_NAMESPACES = pytest.StashKey[list[Namespace]]()
_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, as its admin."""
    if "KUBECONFIG" not in os.environ:
        pytest.fail("No cluster: run `make test-cluster`, or set KUBECONFIG.", pytrace=False)
    reached = Cluster()
    yield reached
    reached.close()


@pytest.fixture
def make_namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Callable[..., Namespace]]:
    """Makes namespaces that are gone after the test."""
    made = request.node.stash.setdefault(_NAMESPACES, [])

    def make(prefix: str = "test", **labels: str) -> Namespace:
        name = unique(prefix)
        metadata = {"name": name, "labels": {key.replace("__", "/"): value for key, value in labels.items()}}
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = wait_for(
            "the default service account",
            lambda: cluster.get("v1", "ServiceAccount", "default", namespace=name),
        )
        assert account["metadata"]["name"] == "default"
        made.append(Namespace(cluster, name))
        return made[-1]

    yield make
    for namespace in made:
        cluster.delete("v1", "Namespace", namespace.name)


@pytest.fixture
def namespace(make_namespace: Callable[..., Namespace]) -> Namespace:
    """A fresh one."""
    return make_namespace()


@pytest.fixture
def kueue(cluster: Cluster, make_namespace: Callable[..., Namespace]) -> Iterator[Kueue]:
    """Kueue, with pools of this test alone."""
    if cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "clusterqueues.kueue.x-k8s.io") is None:
        pytest.skip("this cluster has no Kueue")
    made = Kueue(cluster)
    yield made
    made.clean_up()


@pytest.fixture
def make_user(testbed: Testbed, kueue: Kueue, make_namespace: Callable[..., Namespace]) -> Callable[..., Namespace]:
    """Makes users' namespaces, under Pod Security ``restricted``, each beside a pool of its own."""

    def make(prefix: str = "user", *, slices: int = 1) -> Namespace:
        wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
        namespace = make_namespace(prefix, **{"pod-security.kubernetes.io__enforce": "restricted"})
        kueue.make_pool(slices=slices, fair=False).admit(namespace)
        return namespace

    return make


@pytest.fixture
def start(testbed: Testbed, cluster: Cluster, make_user: Callable[..., Namespace]) -> Start:
    """Starts a user's session, with these settings over the hub's."""

    def start(
        *,
        slices: int = 1,
        profiles: Sequence[Mapping[str, Any]] = (PROFILE,),
        environ: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        **settings: Any,
    ) -> Session:
        return start_session(
            cluster,
            make_user(slices=slices),
            authority=testbed.authority,
            settings={"profiles": profiles, **settings},
            environ=environ,
            arguments=arguments,
        )

    return start


@pytest.fixture(scope="session")
def testbed() -> Testbed:
    """Our own cluster's machinery."""
    directory = testbed_directory()
    if directory is None:
        pytest.skip("only in a cluster of the testbed: it reaches below the API server")
    return Testbed(directory)


@pytest.fixture(scope="session")
def registry(testbed: Testbed) -> Callable:
    """Opens a repository of the registry as one of its users: ``registry("users/alice", user="alice")``."""
    instance = inside()
    return lambda repository, *, user: open_repository(instance, repository, user=user)


@pytest.fixture(scope="session")
def shell_image(cluster: Cluster) -> str:
    """A small image with a shell."""
    given = os.environ.get("AI_BATCH_SHELL_IMAGE")
    ours = "registry.testbed:5000/base/busybox:v1" if testbed_directory() else "docker.io/library/busybox:1.37"
    return given or ours


@pytest.fixture
def state_figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a measured figure at the end of the run."""
    return request.config.stash.setdefault(_FIGURES, []).append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed and call.when != "teardown":
        for namespace in item.stash.get(_NAMESPACES, []):
            report.sections.append((f"namespace {namespace.name}", namespace.dump()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
