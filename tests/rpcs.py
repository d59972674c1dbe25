"""The RPCs of the wire API that programs with functions, images and storage need, by what they are for: jiffy is to answer
all of them. The others are for sandboxes, tunnels, endpoints of models, bills, or for nobody any more."""

from __future__ import annotations

from typing import Final

NEEDED: Final = {
    "sessions and apps": """ClientHello AuthTokenGet EnvironmentGetOrCreate AppCreate AppHeartbeat AppGetLogs AppPublish
        AppClientDisconnect""",
    "code and images": """MountGetOrCreate MountBatchedCheckExistence MountPutFile BlobCreate BlobGet ImageGetOrCreate
        ImageJoinStreaming FunctionPrecreate FunctionCreate""",
    "calls": "FunctionMap FunctionGetOutputs",
    "containers": "ContainerHello ContainerHeartbeat FunctionGetInputs FunctionPutOutputs TaskResult",
    "maps, spawned calls, generators": """FunctionPutInputs FunctionRetryInputs FunctionFinishInputs FunctionCallGetDataOut
        FunctionCallGetDataIn FunctionCallPutDataOut FunctionCallCancel FunctionCallFromId FunctionCallGetInfo
        FunctionGetCallGraph FunctionCallCount FunctionCallFetch""",
    "scaling": """FunctionGetDynamicConcurrency FunctionGetCurrentStats FunctionUpdateSchedulingParams
        FunctionGetSchedulingParams""",
    "classes and options": "ClassCreate ClassGet FunctionBindParams FunctionListVariants",
    "deployments": """AppGetByDeploymentName AppGetLayout AppGetOrCreate FunctionGet FunctionGetById AppList AppStop
        AppGetLifecycle AppGetInfo AppDeploymentHistory AppRollback AppRollover AppSetTags AppGetTags""",
    "logs and containers": """AppFetchLogs AppCountLogs TaskList TaskGetInfo ContainerStop TaskGetCommandRouterAccess""",
    "volumes": """VolumeGetOrCreate VolumeGetById VolumeList VolumeDelete VolumeRename VolumeHeartbeat VolumeCommit
        VolumeReload VolumeListFiles VolumeListFiles2 VolumeGetFile VolumeGetFile2 VolumePutFiles VolumePutFiles2
        VolumeRemoveFile VolumeRemoveFile2 VolumeCopyFiles VolumeCopyFiles2""",
    "secrets": "SecretGetOrCreate SecretList SecretGetInfo SecretUpdate SecretDelete",
    "dicts": """DictGetOrCreate DictGetById DictGet DictUpdate DictPop DictContains DictLen DictContents DictClear
        DictDelete DictList DictHeartbeat""",
    "queues": """QueueGetOrCreate QueueGetById QueuePut QueueGet QueueLen QueueNextItems QueueClear QueueDelete QueueList
        QueueHeartbeat""",
    "environments and tokens": """EnvironmentList EnvironmentCreate EnvironmentDelete EnvironmentUpdate WorkspaceNameLookup
        TokenInfoGet TokenFlowCreate TokenFlowWait""",
    "named images": """ImageFromId ImagePublish ImageGetByTag ImageListTags ImageTagRevisions ImageNameDelete ImageDelete
        ImageBuildChainGet""",
}

SOMETIMES: Final = frozenset({"FunctionCallGetInfo", "FunctionGetDynamicConcurrency", "VolumeHeartbeat"})
"""RPCs that clients call or not as it happens: that a run shows them promises nothing of the next one."""


def needed(group: str) -> list[str]:
    return NEEDED[group].split()


def all_needed() -> set[str]:
    return {name for group in NEEDED for name in needed(group)}
