"""Whether the registry takes Snapshots and gives the image below them; how far one gets, and what opens the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ...errors import BatchError
from ...models import PreflightCheck
from ...oci.probe import Finding, Step
from . import fixes, fixes_network
from .fixes_network import Rule
from .settings import KueueSettings

Probe = Callable[[str | None], Finding | None]


class RegistryChecks:
    """Asks the registry."""

    def __init__(self, probe: Probe, settings: KueueSettings, *, api_rules: Sequence[Rule]) -> None:
        """Args: ``probe``: how far one gets with the user's repository, or with reading an image; blocks."""
        self._probe = probe
        self._settings = settings
        self._api_rules = api_rules

    async def check_repository(self) -> PreflightCheck:
        """Whether the user's repository can be read and written."""
        repository = self._settings.repository
        summary = f"The repository {repository} can be read and written."
        return await self._check("registry", None, summary)

    async def check_image(self, image: str) -> PreflightCheck:
        """Whether the layers of the server's own image can be taken over."""
        return await self._check("base_image", image, f"Your server's image {image} can be read.")

    async def _check(self, name: str, image: str | None, summary: str) -> PreflightCheck:
        try:
            finding = await asyncio.to_thread(self._probe, image)
        except BatchError as exc:
            return PreflightCheck(name=name, ok=False, summary=exc.message, resolution=exc.hint or "")
        if finding is None:
            return PreflightCheck(name=name, ok=True, summary=summary)
        repository = image.partition("@")[0] if image is not None else self._settings.repository
        return PreflightCheck(
            name=name,
            ok=False,
            summary=_summary(finding, repository),
            resolution=_RESOLUTIONS[finding.step],
            fix=self._fix(finding, repository),
        )

    def _fix(self, finding: Finding, repository: str) -> str:
        settings, server = self._settings, finding.origin.address
        if finding.step in (Step.NO_LOGIN, Step.LOGIN):
            secret = settings.registry_secret or "registry"
            return fixes.registry_secret(settings.namespace, secret, server) + _mounted_login(secret)
        if finding.step is Step.CERTIFICATE:
            name = settings.registry_ca_config_map or "registry-ca"
            return fixes.authorities(settings.namespace, name) + _mounted_authorities(name)
        if finding.step is Step.ACCESS:
            rights = "pull" if finding.doing == "read" else "pull and push"
            name = repository.partition("/")[2]
            who = f"the user of the Secret {settings.registry_secret or 'registry'}"
            return f"# at {server}, to {who}, for the repository {name}:\n# {rights}\n"
        if finding.step is Step.NAME:
            line = f'c.BatchExtensionApp.repository = "REGISTRY/{repository.partition("/")[2]}"'
            says = (f"REGISTRY: a name that the cluster's DNS knows, as it does not know {finding.origin.host}",)
            return fixes.commands(line, says=says)
        if finding.step is Step.OTHER:
            return f"# ask the admin of {server}; it answers: {finding.error.message if finding.error else ''}\n"
        return self._opened(finding)

    def _opened(self, finding: Finding) -> str:
        """The way through the network, along with all others that the session needs."""
        origin = finding.origin
        to_registry = fixes_network.host_rule(finding.addresses, origin.port)
        says = [_NETWORK_SAYS[finding.step].format(address=f"{origin.host}:{origin.port}")]
        rules = [fixes_network.dns_rule(), *self._api_rules, to_registry]
        return fixes_network.egress(self._settings.namespace, rules, says=says)


def _summary(finding: Finding, repository: str) -> str:
    origin = finding.origin
    address, host = f"{origin.host}:{origin.port}", origin.host
    texts = {
        Step.NO_RESOLVER: f"The registry's name {host} cannot be looked up: the cluster's DNS gives no answer.",
        Step.NAME: f"The registry's name {host} has no address in the cluster's DNS.",
        Step.NO_LOGIN: "The file with the credentials for the registry is not there (registry_auth_file).",
        Step.SILENCE: f"The registry gives no answer at {address}{_addresses(finding)}.",
        Step.REFUSED: f"Nothing listens at {address}{_addresses(finding)}, where the registry should.",
        Step.CERTIFICATE: f"The registry's certificate at {address} is signed by an authority that is not trusted.",
        Step.LOGIN: f"The registry {origin.address} does not accept your server's user and password.",
        Step.ACCESS: f"The registry does not let your server {finding.doing} the repository {repository}.",
        Step.OTHER: finding.error.message if finding.error is not None else "The registry makes no sense.",
    }
    return texts[finding.step]


def _addresses(finding: Finding) -> str:
    return f" ({', '.join(finding.addresses)})" if finding.addresses else ""


_RESOLUTIONS = {
    Step.NO_RESOLVER: "Ask your admin whether CoreDNS runs, and whether a NetworkPolicy lets your pods ask it.",
    Step.NAME: "Ask your admin whether the setting 'repository' names the registry as the cluster knows it.",
    Step.NO_LOGIN: "Ask your admin to mount the Secret with the credentials, then restart your server.",
    Step.SILENCE: "Ask your admin whether the registry runs, and whether a NetworkPolicy lets your pods reach it.",
    Step.REFUSED: "Ask your admin whether the registry runs, and whether a NetworkPolicy lets your pods reach it.",
    Step.CERTIFICATE: "Ask your admin to add the authority of the registry, then restart your server.",
    Step.LOGIN: "Ask your admin for the right user and password in the Secret.",
    Step.ACCESS: "Ask your admin for the right to it.",
    Step.OTHER: "Ask your admin.",
}
_NETWORK_SAYS = {
    Step.NO_RESOLVER: "if CoreDNS runs (kubectl get pods --namespace=kube-system -l k8s-app=kube-dns):",
    Step.SILENCE: "if the registry runs at {address}:",
    Step.REFUSED: "first have the registry listen at {address}; if it does:",
}


def _mounted_login(secret: str) -> str:
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    volume = {"name": secret, "secret": {"secretName": secret, "items": items}}
    mount = {"name": secret, "mountPath": "/etc/ai-batch/registry", "readOnly": True}
    return (
        "# if they are not there yet:\n"
        f"# c.KubeSpawner.volumes += [{volume}]\n# c.KubeSpawner.volume_mounts += [{mount}]\n"
        f'# c.BatchExtensionApp.registry_secret = "{secret}"\n'
        '# c.BatchExtensionApp.registry_auth_file = "/etc/ai-batch/registry/config.json"\n'
    )


def _mounted_authorities(name: str) -> str:
    volume = {"name": name, "configMap": {"name": name}}
    mount = {"name": name, "mountPath": "/etc/ai-batch/ca"}
    return (
        "# if they are not there yet:\n"
        f"# c.KubeSpawner.volumes += [{volume}]\n# c.KubeSpawner.volume_mounts += [{mount}]\n"
        f'# c.BatchExtensionApp.registry_ca_config_map = "{name}"\n'
        '# c.BatchExtensionApp.registry_ca_file = "/etc/ai-batch/ca/ca.crt"\n'
    )
