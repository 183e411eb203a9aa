"""A user's session as JupyterHub starts it: the pod that a Job takes over from."""


def session_pod(name, *, registry_secret):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "user-alice", "labels": {"component": "singleuser-server"}},
        "spec": {
            "containers": [
                {
                    "name": "notebook",
                    "image": "registry.example/base/user:v1",
                    "workingDir": "/home/jovyan",
                    "env": [{"name": "LANG", "value": "C.UTF-8"}, {"name": "JUPYTERHUB_API_TOKEN", "value": "secret"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                    },
                }
            ],
            "imagePullSecrets": [{"name": registry_secret}],
            "securityContext": {"runAsUser": 1000, "fsGroup": 100, "seccompProfile": {"type": "RuntimeDefault"}},
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "notebook",
                    "image": "registry.example/base/user:v1",
                    "imageID": "registry.example/base/user@sha256:" + "b" * 64,
                    "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}},
                }
            ],
        },
    }
