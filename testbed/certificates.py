"""The certificates of one cluster, made anew for each: one CA for all, one for the aggregation layer."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .places import API, API_SERVICE, HOST, NODE, REGISTRY_NAME

_VALID = dt.timedelta(days=90)
_SKEW = dt.timedelta(hours=1)

API_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    API_SERVICE,
    "127.0.0.1",
    HOST,
)
# File name, common name, organization.
CLIENTS = (
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kubelet", f"system:node:{NODE}", "system:nodes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority that can still sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_certificates(directory: Path) -> None:
    """Write ``NAME.crt`` and ``NAME.key`` (PEM) of everybody, and a kubeconfig ``NAME.yaml`` per client."""
    directory.mkdir(mode=0o700, parents=True)
    ca = _authority(directory, "ca")
    for name, names in (
        ("apiserver", API_SERVER_NAMES),
        ("kubelet-serving", (NODE, HOST)),
        ("registry", (REGISTRY_NAME, HOST)),
    ):
        _issue(directory, ca, name, names[0], names=names)
    for name, common_name, organization in CLIENTS:
        _issue(directory, ca, name, common_name, organization)
        _write_kubeconfig(directory, name)
    _issue(directory, ca, "apiserver-kubelet-client", "kube-apiserver", "system:masters")
    _issue(directory, ca, "token", "token service")
    front_proxy = _authority(directory, "front-proxy-ca")
    _issue(directory, front_proxy, "front-proxy-client", "front-proxy-client")
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(directory / "service-accounts.key", key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "service-accounts.pub").write_bytes(public)


def _authority(directory: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"testbed {name}", "")
    builder = _builder(subject, subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    _write(directory, name, certificate, key)
    return Authority(certificate=certificate, key=key)


def _issue(
    directory: Path, ca: Authority, name: str, common_name: str, organization: str = "", *, names: Sequence[str] = ()
) -> None:
    """A certificate for clients, and for servers when it has names or addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(_name(common_name, organization), ca.certificate.subject, key)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(identifier, critical=False)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(one) for one in names]), critical=False
        )
    _write(directory, name, builder.sign(ca.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str, organization: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(directory / f"{name}.key", key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _write_kubeconfig(directory: Path, name: str) -> None:
    """With everything inside, so that it can be copied; JSON is YAML."""

    def inline(file: str) -> str:
        return base64.b64encode((directory / file).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": API, "certificate-authority-data": inline("ca.crt")}}],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": inline(f"{name}.crt"),
                    "client-key-data": inline(f"{name}.key"),
                },
            }
        ],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
        "current-context": "testbed",
    }
    path = directory / f"{name}.yaml"
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
