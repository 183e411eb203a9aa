"""Whom a request goes to: origins, which of them are reached through a proxy, and whose certificates are believed."""

import pytest

from jupyterlab_ai_batch.errors import RegistryError
from jupyterlab_ai_batch.oci.trust import Origin, find_proxy, tls_context
from tests.registries import Authority

PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Registry.Example.org/v2/", ("https", "registry.example.org", 443, "registry.example.org")),
        ("https://registry.example.org:5000", ("https", "registry.example.org", 5000, "registry.example.org:5000")),
        ("http://10.0.0.1", ("http", "10.0.0.1", 80, "10.0.0.1")),
        ("http://[::1]:5000/x", ("http", "::1", 5000, "[::1]:5000")),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, expected):
    """Whatever the address says besides."""
    origin = Origin.of(url)
    assert (origin.scheme, origin.host, origin.port, origin.address) == expected


@pytest.mark.parametrize(
    "url", ["", "registry.example.org", "ftp://a/", "file:///etc/passwd", "https://", "https://u@a/", "https://a:b/",
            "https://a:99999/", "https://[::1/", "//a/"]
)  # fmt: skip
def test_other_addresses_are_refused(url):
    """Also those with credentials in them."""
    with pytest.raises(RegistryError):
        Origin.of(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("[::1]", True), ("localhost.example.org", False),
     ("127.0.0.1.example.org", False), ("10.0.0.1", False), ("my-localhost", False)],
)  # fmt: skip
def test_loopback_is_this_machine(host, loopback):
    """And nothing that only looks like it."""
    assert Origin.of(f"http://{host}/").is_loopback is loopback


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "https://a.org", None),
        ({"https_proxy": PROXY}, "https://a.org", PROXY),
        ({"HTTPS_PROXY": PROXY}, "https://a.org", PROXY),
        ({"https_proxy": PROXY}, "http://a.org", None),
        ({"http_proxy": "proxy:3128"}, "http://a.org", "http://proxy:3128"),
        ({"all_proxy": PROXY}, "https://a.org", PROXY),
        ({"https_proxy": PROXY}, "https://localhost:5000", None),
        ({"https_proxy": PROXY}, "https://127.0.0.1", None),
        *(
            ({"https_proxy": PROXY, "no_proxy": excepted}, "https://registry.a.org:5000", None)
            for excepted in ("*", "a.org", ".a.org", "*.a.org", "registry.a.org", "x, A.org ,y", "a.org:5000")
        ),
        *(
            ({"https_proxy": PROXY, "no_proxy": excepted}, "https://registry.a.org:5000", PROXY)
            for excepted in ("", ",", "org.a", "y.a.org", "ry.a.org", "a.org:443", "10.0.0.0/8", "registry")
        ),
        ({"https_proxy": PROXY, "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"https_proxy": PROXY, "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", PROXY),
        ({"https_proxy": PROXY, "NO_PROXY": "fd00::/8"}, "https://[fd00::5]", None),
        ({"https_proxy": PROXY, "NO_PROXY": "[fd00::5]:443"}, "https://[fd00::5]", None),
    ],
)
def test_the_environment_names_the_proxy(environ, url, expected):
    """Small letters first; no_proxy takes domains, addresses, networks and ports."""
    assert find_proxy(Origin.of(url), environ) == expected


def believed(ca_file, *, host="https://registry.example.org"):
    return tls_context(Origin.of(host), environ={}, ca_file=ca_file, certificate_directories=())


def test_the_same_certificates_are_read_once_for_all_origins(tmp_path):
    authority = Authority(tmp_path).certificate
    assert believed(authority) is believed(authority, host="https://tokens.example.org")
    assert believed(authority) is not believed(None)


def test_an_authority_that_is_replaced_is_believed_at_once(tmp_path):
    """As a mounted ConfigMap is, while the server runs."""
    mounted = tmp_path / "ca.crt"
    numbers = []
    for name in ("first", "second"):
        new = Authority(tmp_path / name).certificate
        new.replace(mounted)
        numbers.append({found["serialNumber"] for found in believed(mounted).get_ca_certs()})
    assert numbers[0] - numbers[1]
    assert numbers[1] - numbers[0]
