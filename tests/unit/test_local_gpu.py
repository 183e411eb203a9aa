"""GPU slots from NVML, told by a stand-in for its module."""

import pytest

from jupyterlab_ai_batch.queues.local.gpu import list_gpus, select_gpus


class FakeNvml:
    """Two GPUs: one whole, one split into two MIG devices; a third that fails."""

    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        if index == 2:
            raise self.NVMLError
        return ["GPU-a", "GPU-b"][index]

    def nvmlDeviceGetMigMode(self, device):  # noqa: N802
        if device == "GPU-a":
            raise self.NVMLError
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, device):  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):  # noqa: N802
        if index in (0, 3):
            return f"MIG-{index}"
        raise self.NVMLError

    def nvmlDeviceGetUUID(self, device):  # noqa: N802
        return device.encode() if device == "GPU-a" else device


def test_mig_devices_are_slots():
    """A GPU without MIG is one slot, each MIG device is one, a GPU that fails is none."""
    assert ("GPU-a", "MIG-0", "MIG-3") == list_gpus(FakeNvml())


@pytest.mark.parametrize(
    ("configured", "visible", "selected"),
    [
        (None, None, ("GPU-a", "MIG-0")),
        (("MIG-9",), "0", ("MIG-9",)),
        (None, "", ()),
        (None, "MIG-0", ("MIG-0",)),
        (None, "1,0", ("MIG-0", "GPU-a")),
        (None, "0,-1,1", ("GPU-a",)),
        (None, "GPU-unknown", ()),
    ],
)
def test_select(configured, visible, selected):
    """The admin's list wins; else the server's own CUDA_VISIBLE_DEVICES limits the choice."""
    assert selected == select_gpus(("GPU-a", "MIG-0"), configured=configured, visible=visible)
