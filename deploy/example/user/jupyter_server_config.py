import os

c = get_config()
c.BatchExtensionApp.repository = f"registry.example.org/users/{os.environ['JUPYTERHUB_USER']}"
c.BatchExtensionApp.registry_secret = "registry"
c.BatchExtensionApp.registry_auth_file = "/etc/ai-batch/registry/config.json"
# Only for a registry with a certificate authority of its own:
c.BatchExtensionApp.registry_ca_config_map = "registry-ca"
c.BatchExtensionApp.registry_ca_file = "/etc/ai-batch/ca/ca.crt"
c.BatchExtensionApp.queues = ["batch"]
# The pool's ClusterQueues, and how long Kueue remembers use (its admissionFairSharing.usageHalfLifeTime):
c.BatchExtensionApp.pool_queues = {"interactive": ["interactive"], "batch": ["batch"]}
c.BatchExtensionApp.usage_half_life_s = 7 * 24 * 3600
c.BatchExtensionApp.profiles = [
    {
        "name": "mig-1g.5gb",
        "title": "One slice (5 GB)",
        "gpu_slots": 1,
        "gpu_resource": "nvidia.com/mig-1g.5gb",
        "cpu_millicores": 4000,
        "memory_bytes": 16 * 1024**3,
        "default_max_duration_s": 24 * 3600,
    },
    {"name": "small", "title": "CPU only", "cpu_millicores": 1000, "memory_bytes": 4 * 1024**3},
]
