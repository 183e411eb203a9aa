"""What an admin decides about jobs in the cluster; plain values, which travel as JSON through ``wire``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ProfileUnknownError
from ...models import Profile

AS_IN_SESSION = "*"
DEFAULT_ENVIRONMENT = (
    *("LANG", "LANGUAGE", "LC_*", "TZ", "PATH", "HOME", "NB_*", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("CONDA_*", "MAMBA_*", "PYTHON*", "R_*", "JULIA_*", "JAVA_HOME", "LD_LIBRARY_PATH"),
    *("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH"),
    *("NVIDIA_*", "CUDA_*", "NCCL_*", "OMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*", "TF_*", "TORCH_*", "XLA_*", "MPL*"),
    *("HF_HOME", "HF_HUB_*", "HF_DATASETS_*", "TRANSFORMERS_*"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KueueProfile:
    """A Profile, and what it means in the cluster.

    Attributes:
        profile: Its ``cpu_millicores``, ``memory_bytes`` and ``gpu_slots`` are requested, and are the limits; its
            ``default_max_duration_s`` limits each Attempt of Submissions that name no limit.
        gpu_resource: What one GPU slot is called in the cluster: ``nvidia.com/gpu``, ``nvidia.com/mig-1g.5gb``.
        scratch_bytes: Size of the job's scratch directory; needs no quota.
        grace_period_s: Seconds between SIGTERM, upon which results are saved, and SIGKILL; an Eviction takes up to
            as long.
        node_selector: Labels of the nodes where jobs may run; the value ``*`` takes over the session's own, if any.
        tolerations: As in a pod's specification.
        runtime_class: RuntimeClass of jobs; empty takes over the session's own, if any.
    """

    profile: Profile
    gpu_resource: str = ""
    scratch_bytes: int = 10 * 1024**3
    grace_period_s: int = 30
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    runtime_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolQueues:
    """The ClusterQueues of the pool, by who uses them; their numbers are read where the account may."""

    interactive: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KueueSettings:
    """Everything about jobs in the cluster that is not the user's to decide.

    Attributes:
        namespace: Where the user's session runs, and the jobs.
        queues: LocalQueues there that users may choose; the first is the default.
        profiles: What users may choose; the first is the default.
        repository: ``host/name`` that receives the user's Snapshots and OutputSets.
        registry_secret: Secret of type ``kubernetes.io/dockerconfigjson`` for it; empty: it needs none.
        registry_ca_config_map: ConfigMap with certificate authorities for it under ``ca.crt``; empty: none of its own.
        environment_allow: Patterns (``fnmatch``, case-sensitive) of variables of the session's pod that jobs get too.
            Secrets, and what belongs to the session alone, never reach a job, whatever stands here.
        shared_volumes: Names of volumes of the session's pod that jobs mount too, always read-only. Only ConfigMaps,
            persistent volume claims, NFS and CSI volumes; never the home, secrets or directories of the node.
        service_account: The jobs' ServiceAccount, whose token they never get; empty: the namespace's default.
        pool_queues: Those whose quota is the pool.
        usage_half_life_s: As Kueue's ``admissionFairSharing.usageHalfLifeTime``, which users cannot read; 0: not told.
    """

    namespace: str
    queues: tuple[str, ...]
    profiles: tuple[KueueProfile, ...]
    repository: str
    registry_secret: str = ""
    registry_ca_config_map: str = ""
    environment_allow: tuple[str, ...] = DEFAULT_ENVIRONMENT
    shared_volumes: tuple[str, ...] = ()
    service_account: str = ""
    pool_queues: PoolQueues = field(default_factory=PoolQueues)
    usage_half_life_s: int = 0

    def find_profile(self, name: str) -> KueueProfile:
        """The profile of that name.

        Raises:
            ProfileUnknownError: there is none.
        """
        for profile in self.profiles:
            if profile.profile.name == name:
                return profile
        known = [profile.profile.name for profile in self.profiles]
        raise ProfileUnknownError(
            f"There is no profile '{name[:80]}'.",
            hint=f"Choose one of: {', '.join(known) or 'none is defined; ask your admin'}.",
            details={"profile": name[:80], "known": known},
        )
