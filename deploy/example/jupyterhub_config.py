c = get_config()
c.KubeSpawner.enable_user_namespaces = True
c.KubeSpawner.user_namespace_template = "jupyter-{username}"
c.KubeSpawner.service_account = "notebook"
c.KubeSpawner.automount_service_account_token = True
c.KubeSpawner.extra_labels = {"kueue.x-k8s.io/queue-name": "interactive"}
c.KubeSpawner.environment = {
    "POD_NAME": {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    "POD_NAMESPACE": {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
}
c.KubeSpawner.image_pull_secrets = ["registry"]
c.KubeSpawner.volumes = [
    {
        "name": "registry",
        "secret": {"secretName": "registry", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]},
    },
    {"name": "registry-ca", "configMap": {"name": "registry-ca"}},
    {"name": "batch-config", "configMap": {"name": "batch-config"}},
]
c.KubeSpawner.volume_mounts = [
    {"name": "registry", "mountPath": "/etc/ai-batch/registry", "readOnly": True},
    {"name": "registry-ca", "mountPath": "/etc/ai-batch/ca", "readOnly": True},
    {"name": "batch-config", "mountPath": "/etc/jupyter", "readOnly": True},
]
