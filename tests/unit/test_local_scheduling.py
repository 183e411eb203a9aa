"""Which waiting Submissions are admitted."""

import pytest

from jupyterlab_ai_batch.queues.local.records import Waiting
from jupyterlab_ai_batch.queues.local.scheduling import choose


@pytest.mark.parametrize(
    ("gpus", "free_slots", "free_gpus", "chosen"),
    [
        ([0, 0, 0], 2, 0, [0, 1]),
        ([0, 0], 0, 4, []),
        ([1, 0], 2, 0, [1]),
        ([2, 1, 0], 3, 1, [2]),
        ([1, 1, 1], 3, 2, [0, 1]),
        ([2, 0, 2], 3, 4, [0, 1, 2]),
    ],
)
def test_choose(gpus, free_slots, free_gpus, chosen):
    """In order; who lacks GPUs lets pass who needs none, but nobody who needs any."""
    waiting = [Waiting(id=str(i), seq=i, priority=0, gpu_slots=count) for i, count in enumerate(gpus)]
    admitted = choose(waiting, free_slots=free_slots, free_gpus=free_gpus)
    assert chosen == [int(entry.id) for entry in admitted]
