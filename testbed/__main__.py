"""``python -m testbed up|down|status|env|exec|run|stop|start|reset``; see docs/testbed.md."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from . import lifecycle
from .binaries import report
from .errors import TestbedError
from .instance import DEFAULT_NAME, Instance, Settings, known_instances
from .isolation import entering, environment_inside


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    action: Callable[[argparse.Namespace], int] = options.action
    try:
        return action(options)
    except TestbedError as error:
        report(f"testbed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _up(options: argparse.Namespace) -> int:
    instance = lifecycle.up(Instance.named(options.name), _settings(options), keep=options.keep)
    report(
        f"Cluster {instance.name!r} is up. Inside: python -m testbed exec --name {instance.name} kubectl get pods -A"
    )
    return 0


def _down(options: argparse.Namespace) -> int:
    names = [one.name for one in known_instances()] if options.all else [options.name]
    for name in names:
        lifecycle.down(Instance.named(name))
    return 0


def _status(options: argparse.Namespace) -> int:
    lifecycle.clear_up()
    instances = list(known_instances())
    for instance in instances:
        status = instance.read_status()
        print(f"{instance.name}: {status.get('state', 'starting')} ({status.get('message', '')})")
        for name, component in status.get("components", {}).items():
            print(_component_line(name, component))
    if not instances:
        print("No cluster is up.")
    wanted = next((one for one in instances if one.name == options.name), None)
    return 0 if wanted is not None and wanted.read_status().get("state") == "ready" else 3


def _component_line(name: str, component: Mapping[str, object]) -> str:
    seconds = component["seconds"]
    after = f"{seconds:5.1f} s" if isinstance(seconds, float) else "       "
    restarts = f", restarted {component['restarts']} times" if component["restarts"] else ""
    return f"  {name:20} {component['state']:10} {after}  pid {component['pid'] or '-'}{restarts}"


def _env(options: argparse.Namespace) -> int:
    """For ``exec`` scripts that are inside already; outside, nothing of the cluster can be reached."""
    Instance.named(options.name).supervisor_pid()
    for name, value in environment_inside().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"# inside: {shlex.join(entering(Instance.named(options.name), ['bash']))}")
    return 0


def _exec(options: argparse.Namespace) -> int:
    command = entering(Instance.named(options.name), options.command)
    os.execvp(command[0], command)  # noqa: S606 - its place is ours from here on


def _run(options: argparse.Namespace) -> int:
    """A command with a cluster that lives exactly as long; in the user's own cluster where KUBECONFIG names one."""
    if "KUBECONFIG" in os.environ:
        report(f"Using the cluster of KUBECONFIG={os.environ['KUBECONFIG']}")
        return subprocess.run(options.command, check=False).returncode
    instance = Instance.named(options.name or f"run-{os.getpid()}")
    if instance.parent_pid() is not None:
        return subprocess.run(entering(instance, options.command), check=False).returncode
    lifecycle.up(instance, _settings(options), bound=True)
    try:
        return subprocess.run(entering(instance, options.command), check=False).returncode
    finally:
        lifecycle.down(instance)


def _stop(options: argparse.Namespace) -> int:
    lifecycle.stop_component(Instance.named(options.name), options.component)
    return 0


def _start(options: argparse.Namespace) -> int:
    lifecycle.start_component(Instance.named(options.name), options.component)
    return 0


def _reset(options: argparse.Namespace) -> int:
    lifecycle.reset(Instance.named(options.name))
    return 0


def _build(options: argparse.Namespace) -> int:
    lifecycle.build(_settings(options))
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(fake_nodes=options.fake_nodes, mig_slices=options.mig_slices)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed", description="A real Kubernetes with a real Kueue.")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text)
        added.set_defaults(action=action)
        default = None if name == "run" else DEFAULT_NAME
        added.add_argument("--name", default=default, help="of the cluster, for several at once (default: %(default)s)")
        return added

    for name, action, text in (
        ("build", _build, "build or fetch everything that a cluster needs, and start none"),
        ("up", _up, "start a cluster and wait until it is ready"),
        ("run", _run, "run a command inside a cluster that lives as long as the command"),
    ):
        added = add(name, action, text)
        added.add_argument("--fake-nodes", type=int, default=0, metavar="N", help="KWOK nodes beside the real one")
        added.add_argument("--mig-slices", type=int, default=7, metavar="N", help="on the real node")
        if name == "up":
            added.add_argument(
                "--keep", action="store_true", help="leave it as it is when a component does not come up"
            )
        if name == "run":
            added.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    add("down", _down, "end a cluster; nothing of it remains").add_argument("--all", action="store_true")
    add("status", _status, "every cluster and its components; status 0 if the named one is ready")
    add("env", _env, "the variables that commands inside have, and how to get in")
    add("reset", _reset, "delete all that users and tests made, keep the cluster")
    add("exec", _exec, "run a command inside").add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    for name, action in (("stop", _stop), ("start", _start)):
        add(name, action, f"{name} one component of a running cluster").add_argument("component")
    return parser


if __name__ == "__main__":
    sys.exit(main())
