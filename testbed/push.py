"""Images into the cluster's registry, by the product's own client."""

from __future__ import annotations

import json
from pathlib import Path

from jupyterlab_ai_batch.oci.credentials import Credentials
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.reference import parse_reference
from jupyterlab_ai_batch.oci.registry import Registry, RegistrySettings, connect
from jupyterlab_ai_batch.oci.transfer import copy_image
from jupyterlab_ai_batch.oci.transport_settings import TransportSettings

from .images import TAG
from .instance import Instance
from .places import REGISTRY


def push(instance: Instance, layout: Path, image: str) -> None:
    """Copy a layout's only image to ``repository:tag``; what is there already is not sent."""
    with open_repository(instance, image, user="admin") as repository:
        copy_image(ImageLayout(layout), repository, TAG, tag=image.rpartition(":")[2])


def open_repository(instance: Instance, image: str, *, user: str) -> Registry:
    """A repository of the registry as one of its users sees it; from inside. To be closed."""
    passwords = json.loads(instance.accounts_file.read_text())
    settings = RegistrySettings(
        transport=TransportSettings(plain_http=False, ca_file=instance.certificates / "ca.crt"),
        credentials=Credentials(username=user, password=passwords[user]),
    )
    return connect(parse_reference(f"{REGISTRY}/{image}"), settings)
