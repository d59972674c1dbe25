"""Layouts: which functions and classes an app has, and what is known of each object."""

from __future__ import annotations

from collections.abc import Iterable

from modal_proto import api_pb2

from jiffy.store.apps import App
from jiffy.store.stores import Stores


async def make_layout(stores: Stores, app: App, dependencies: Iterable[str]) -> api_pb2.AppLayout:
    """Every function and class of the app, and every object that is depended on: the entrypoint misses none."""
    layout = api_pb2.AppLayout(function_ids=app.function_ids, class_ids=app.class_ids)
    for function_id in app.function_ids.values():
        stored = await stores.functions.get(function_id)
        handle = api_pb2.FunctionHandleMetadata.FromString(stored.handle)
        layout.objects.add(object_id=function_id, function_handle_metadata=handle)
    for class_id in app.class_ids.values():
        layout.objects.add(object_id=class_id, class_handle_metadata=api_pb2.ClassHandleMetadata())
    known = {each.object_id for each in layout.objects}
    for object_id in dict.fromkeys(dependencies):
        if object_id in known:
            continue
        if object_id.startswith("fu-"):
            handle = api_pb2.FunctionHandleMetadata.FromString((await stores.functions.get(object_id)).handle)
            layout.objects.add(object_id=object_id, function_handle_metadata=handle)
        elif object_id.startswith("cs-"):
            layout.objects.add(object_id=object_id, class_handle_metadata=api_pb2.ClassHandleMetadata())
        elif object_id.startswith("vo-"):
            named, volume = await stores.named_objects.get("volume", object_id), await stores.volumes.get(object_id)
            metadata = api_pb2.VolumeMetadata(name=named.name, version=volume.fs_version)  # type: ignore[arg-type]
            layout.objects.add(object_id=object_id, volume_metadata=metadata)
        else:
            layout.objects.add(object_id=object_id)
    return layout
