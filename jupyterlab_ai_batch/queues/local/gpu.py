"""GPU slots of this machine, as NVML lists them: each MIG device is one, a GPU without MIG is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def discover_gpus() -> tuple[str, ...]:
    """UUIDs as ``CUDA_VISIBLE_DEVICES`` takes them; none without ``nvidia-ml-py``, a driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return list_gpus(pynvml)
    finally:
        pynvml.nvmlShutdown()


def list_gpus(nvml: Any) -> tuple[str, ...]:
    """The same from an initialised NVML module; a device that fails to answer is left out."""
    found: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            found += _mig_uuids(nvml, device) if _has_mig(nvml, device) else [_uuid(nvml, device)]
        except nvml.NVMLError:  # noqa: PERF203 - one device's failure is not the next one's
            continue
    return tuple(found)


def select_gpus(discovered: Sequence[str], *, configured: Sequence[str] | None, visible: str | None) -> tuple[str, ...]:
    """Those of the admin's list, else those that ``CUDA_VISIBLE_DEVICES`` of the server lets us see.

    A list of indices, which name whole GPUs in the order found, is understood as well; CUDA ignores what follows
    the first name it does not know.
    """
    if configured is not None:
        return tuple(configured)
    if visible is None:
        return tuple(discovered)
    selected: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        matches = [gpu for index, gpu in enumerate(discovered) if name and (name == str(index) or gpu.startswith(name))]
        if len(matches) != 1:
            break
        selected += matches
    return tuple(selected)


def _has_mig(nvml: Any, device: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(device)
    except nvml.NVMLError:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig_uuids(nvml: Any, device: Any) -> list[str]:
    return list(_iterate_mig(nvml, device))


def _iterate_mig(nvml: Any, device: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            yield _uuid(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index))
        except nvml.NVMLError:  # noqa: PERF203
            continue  # a place that holds no MIG device


def _uuid(nvml: Any, device: Any) -> str:
    uuid = nvml.nvmlDeviceGetUUID(device)
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
