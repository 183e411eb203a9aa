"""What a run uses: of its cgroup where it is alone in it, of its processes elsewhere."""

import asyncio
import subprocess
import sys

import pytest

from jupyterlab_ai_batch.runner.usage import UsageMeter

MIB = 1 << 20
VERSION_2 = {"memory.stat": "anon {}\nfile 999999999\nshmem 5\n", "cpu.stat": "usage_usec 2500000\nuser_usec 1\n"}
VERSION_1 = {
    "memory/memory.stat": "cache 9\ntotal_rss {}\ntotal_cache 9\ntotal_shmem 5\n",
    "cpuacct/cpuacct.usage": "2500000000\n",
}


def write(directory, files, used):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.format(used))


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1])
def test_a_container_is_its_cgroup(tmp_path, files):
    """The most is remembered, and files that are merely cached do not count."""
    meter = UsageMeter(is_alone=True, cgroups=tmp_path)
    for used in (100, 300, 200):
        write(tmp_path, files, used)
        meter.look()
    assert (305, 2.5) == (meter.usage.peak_memory_bytes, meter.usage.cpu_s)


def test_elsewhere_it_is_all_descendants():
    """Also those that are not looked at any more: 64 MiB that a child of a child had for a moment."""
    script = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(b\"x\" * {64 * MIB}); input()'])"
    )
    meter = UsageMeter(is_alone=False)
    meter.look()
    before = meter.usage.peak_memory_bytes
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:

        async def until_seen():
            watching = asyncio.create_task(meter.watch())
            while meter.usage.peak_memory_bytes < before + 64 * MIB:
                await asyncio.sleep(0.05)
                meter.look()
            watching.cancel()

        asyncio.run(asyncio.wait_for(until_seen(), 30))
        child.communicate(b"\n", timeout=30)
    meter.look()
    assert meter.usage.peak_memory_bytes >= before + 64 * MIB
    assert meter.usage.cpu_s > 0


def test_a_container_that_hides_its_cgroup_is_its_processes(tmp_path):
    meter = UsageMeter(is_alone=True, cgroups=tmp_path)
    meter.look()
    assert meter.usage.peak_memory_bytes > MIB
    assert meter.usage.cpu_s > 0
