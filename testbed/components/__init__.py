"""The components of a cluster, in an order in which each comes after those that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from ..component import Component
from ..instance import Settings
from .apiserver import ApiServer
from .cni import Cni
from .containerd import Containerd
from .controller_manager import ControllerManager
from .coredns import CoreDns
from .etcd import Etcd
from .images import Images
from .kube_proxy import KubeProxy
from .kubelet import Kubelet
from .kueue import Kueue
from .kwok import Kwok
from .mig import Mig
from .pool import Pool
from .registry import Registry
from .scheduler import Scheduler
from .token_service import TokenService
from .user_image import UserImage

_ALWAYS: tuple[type[Component], ...] = (
    Etcd,
    ApiServer,
    TokenService,
    Registry,
    Images,
    ControllerManager,
    Scheduler,
    KubeProxy,
    CoreDns,
    Cni,
    Containerd,
    Kubelet,
    Mig,
    Kueue,
    Pool,
    UserImage,
)


def chosen(settings: Settings) -> Sequence[Component]:
    """Those that a cluster with these settings has."""
    return [make() for make in (*_ALWAYS, *((Kwok,) if settings.fake_nodes else ()))]
