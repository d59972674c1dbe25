"""Machines that are pods of a Kubernetes cluster, each of which runs a worker."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from jiffy.errors import ExhaustedError, InvalidError, JiffyError, UnavailableError
from jiffy.extras import load_extra
from jiffy.fleet.base import Join, Kind
from jiffy.fleet.settings import KubernetesSettings

_FLEET: Final = "jiffy.fleet"
_ALIVE: Final = frozenset({None, "Pending", "Running", "Unknown"})
_INSTANCE_LABEL: Final = "node.kubernetes.io/instance-type"
_DATA: Final = "/var/lib/jiffy"
_WHAT: Final = "pods cannot be had as machines"


class KubernetesProvider:
    """An offer's `instance` is the type of the nodes that its pods go to, if it is another than the offer's name."""

    look_seconds: Final = 3.0
    appears_seconds: Final = 15.0

    def __init__(self, settings: KubernetesSettings, fleet: str) -> None:
        self._settings = settings
        self._fleet = fleet
        self._lightkube = load_extra("lightkube", _WHAT, "kubernetes")
        self._httpx = load_extra("httpx2", _WHAT, "kubernetes")
        self._pod = load_extra("lightkube.resources.core_v1", _WHAT, "kubernetes").Pod
        self._client: Any = None

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        pod = self._pod.from_dict(self._describe(machine_id, kind, join))
        await self._ask(lambda client: client.create(pod, namespace=self._settings.namespace))

    async def running(self) -> Collection[str]:
        async def find(client: Any) -> set[str]:
            pods = client.list(self._pod, namespace=self._settings.namespace, labels={_FLEET: self._fleet})
            return {
                pod.metadata.name
                async for pod in pods
                if pod.metadata.deletionTimestamp is None and (pod.status is None or pod.status.phase in _ALIVE)
            }

        found: set[str] = await self._ask(find)
        return found

    async def end(self, machine_id: str) -> None:
        await self._ask(
            lambda client: client.delete(self._pod, machine_id, namespace=self._settings.namespace), may_be_gone=True
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _describe(self, machine_id: str, kind: Kind, join: Join) -> dict[str, Any]:
        offer = kind.offer
        size = {"cpu": f"{offer.cpu_millis}m", "memory": str(offer.memory_bytes)}
        if offer.gpus:
            size["nvidia.com/gpu"] = str(offer.gpus)
        selector = dict(self._settings.node_selector)
        if kind.instance != offer.name:
            selector[_INSTANCE_LABEL] = kind.instance
        options = ("--cpus", f"{offer.cpu_millis / 1000:g}", "--memory", str(offer.memory_bytes * 9 // 10))
        worker = {
            "name": "worker",
            "image": self._settings.image,
            "command": ["jiffy", "worker", "--data", _DATA, *options, *join.options()],
            "env": [{"name": "JIFFY_WORKER_TOKEN", "value": join.token}],
            "resources": {"requests": size, "limits": size},
            "securityContext": {"privileged": True},
            "volumeMounts": [{"name": "data", "mountPath": _DATA}],
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": machine_id, "labels": {_FLEET: self._fleet}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 150,
                "nodeSelector": selector,
                "containers": [worker],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }

    async def _ask(self, question: Any, *, may_be_gone: bool = False) -> Any:
        try:
            return await question(self._open())
        except self._lightkube.ApiError as error:
            if may_be_gone and error.status.code == 404:
                return None
            raise _explain(error.status) from error
        except (self._httpx.HTTPError, self._lightkube.core.exceptions.ConfigError) as error:
            raise UnavailableError("Kubernetes does not answer", why=str(error) or type(error).__name__) from error

    def _open(self) -> Any:
        if self._client is None:
            file, read = self._settings.kubeconfig, self._lightkube.KubeConfig
            self._client = self._lightkube.AsyncClient(config=read.from_file(file) if file else None)
        return self._client


def _explain(status: Any) -> JiffyError:
    why = str(status.message or status.reason)
    if status.code == 403 and "quota" in why:
        return ExhaustedError("Kubernetes has no room for now", why=why)
    if status.code is None or status.code >= 500 or status.code == 429:
        return UnavailableError("Kubernetes does not answer", why=why)
    return InvalidError("Kubernetes refuses", why=why)
