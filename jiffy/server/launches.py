"""The order that launches a container: its layers, its environment, what the client's entrypoint reads."""

from __future__ import annotations

from typing import Final

from modal_proto import api_pb2

from jiffy.core.actions import BucketMount, LaunchContainer, Resources, VolumeMount
from jiffy.errors import NotFoundError, UnsupportedError
from jiffy.server.derivations import Derivations, has_dependencies
from jiffy.server.environments import builder_version
from jiffy.server.known_functions import KnownFunction
from jiffy.server.layers import without_repeats
from jiffy.server.layouts import make_layout
from jiffy.server.packs import Packs
from jiffy.server.profiles import Profiles, Start
from jiffy.store.images import ImageContent, StoredImage
from jiffy.store.mounts import CLIENT_REFERENCE
from jiffy.store.stores import Stores

_ARGUMENTS: Final = "/run/jiffy/arguments"
_CREDENTIALS: Final = {
    "GOOGLE_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "GOOGLE_ACCESS_KEY_SECRET": "AWS_SECRET_ACCESS_KEY",
    **{name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")},
}
"""Variables of secrets that open buckets, and what they are to AWS's tools."""

_HOME: Final = "/root"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launches:
    def __init__(self, stores: Stores, derivations: Derivations, profiles: Profiles, packs: Packs) -> None:
        self._stores = stores
        self._derivations = derivations
        self._profiles = profiles
        self._packs = packs

    async def prepare(self, function: KnownFunction, task_id: str) -> LaunchContainer:
        """Raises a JiffyError that says why the container cannot be launched."""
        image, content = await self._image(function.definition)
        arguments = await self._arguments(function, task_id)
        layers = await self._layers(function.definition, image, content)
        volumes = await self._volumes(function.definition, task_id)
        name = f"{function.definition.module_name}.{function.definition.function_name}"
        advice = await self._profiles.advise(task_id, Start(name, image.image_id, content.python, layers))
        return LaunchContainer(
            task_id=task_id,
            layers=tuple([await self._derivations.erofs_image(layer) for layer in layers]),
            argv=(*content.entrypoint, "python", "-m", "modal._container_entrypoint"),
            environment={
                **self._environment(function, task_id, content, arguments.environment_name),
                **await self.secrets(function.definition),
            },
            working_directory=content.working_directory or _HOME,
            files={_ARGUMENTS: arguments.SerializeToString()},
            resources=Resources(
                function.settings.memory_limit_bytes, function.settings.cpu_limit_millis, function.settings.need.gpus
            ),
            profile=self._packs.find(advice.profile) if advice.is_settled else advice.profile,
            catalogues=() if advice.is_known else tuple([await self._derivations.catalogue(layer) for layer in layers]),
            chunk_maps=tuple(
                [await self._derivations.chunk_map(layer) for layer in (*layers, *{volume.head for volume in volumes})]
            ),
            volumes=volumes,
            buckets=tuple([await self._bucket(mount) for mount in function.definition.cloud_bucket_mounts]),
            record=advice.record,
            capture=function.definition.is_builder_function,
            terminates=function.definition.is_server,
        )

    async def layers(self, definition: api_pb2.Function) -> tuple[str, ...]:
        """The indexes of a function's containers, bottom first: those of its image come first."""
        image, content = await self._image(definition)
        return await self._layers(definition, image, content)

    async def _volumes(self, definition: api_pb2.Function, task_id: str) -> tuple[VolumeMount, ...]:
        """A function's volumes as they are committed now."""
        return tuple([await self._volume(mount, task_id) for mount in definition.volume_mounts])

    async def _volume(self, mount: api_pb2.VolumeMount, task_id: str) -> VolumeMount:
        head = (await self._stores.volumes.get(mount.volume_id)).head
        await self._stores.volumes.note_use(task_id, head)
        return VolumeMount(
            volume_id=mount.volume_id,
            target=mount.mount_path,
            head=head,
            layers=(await self._derivations.erofs_image(head),),
            read_only=mount.read_only,
            background=mount.allow_background_commits,
            sub_path=mount.sub_path,
        )

    async def _bucket(self, mount: api_pb2.CloudBucketMount) -> BucketMount:
        secret = mount.credentials_secret_id
        variables = (await self._stores.secrets.get(secret)).variables if secret else {}
        return BucketMount(
            bucket=mount.bucket_name,
            target=mount.mount_path,
            prefix=mount.key_prefix,
            endpoint=mount.bucket_endpoint_url,
            credentials={name: variables[source] for source, name in _CREDENTIALS.items() if variables.get(source)},
            read_only=mount.read_only,
            requester_pays=mount.requester_pays,
            path_style=mount.force_path_style,
        )

    async def secrets(self, definition: api_pb2.Function) -> dict[str, str]:
        """The variables of a function's secrets; of several with one name, the last counts."""
        found = [await self._stores.secrets.get(secret_id) for secret_id in definition.secret_ids]
        return {name: value for secret in found for name, value in secret.variables.items()}

    async def _image(self, definition: api_pb2.Function) -> tuple[StoredImage, ImageContent]:
        image = await self._stores.images.get(definition.image_id)
        if image.content is None:
            raise NotFoundError(f"image {image.image_id} was never finished")
        if not image.content.python:
            raise UnsupportedError(
                f"image {image.image_id} has no Python", hint='a function needs one: add_python="3.12" brings it'
            )
        return image, image.content

    async def _layers(self, definition: api_pb2.Function, image: StoredImage, content: ImageContent) -> tuple[str, ...]:
        """Bottom first: the image, the client's dependencies, the client, the program's files in one layer. Of an image that
        is found by its name, a client does not know whether it has the dependencies; one that was imported has none."""
        client, files = await self._mount_layers(definition, content)
        layers = content.layers
        version = client[0].removeprefix(CLIENT_REFERENCE) if client else ""
        builder = image.builder_version or builder_version(version)
        if definition.mount_client_dependencies or (client and not has_dependencies(builder)):
            dependencies = await self._derivations.dependencies_layer(builder, version, content, _ignore)
            layers = (*layers, await self._derivations.graft_layer(layers, dependencies))
        for reference in client:
            version = reference.removeprefix(CLIENT_REFERENCE)
            layer = await self._derivations.client_layer(version, content, _ignore)
            layers = (*layers, await self._derivations.graft_layer(layers, layer))
        if files:
            layers = (*layers, await self._derivations.graft_layer(layers, await self._derivations.merge_layers(files)))
        return without_repeats(layers)

    async def _mount_layers(
        self, definition: api_pb2.Function, content: ImageContent
    ) -> tuple[list[str], tuple[str, ...]]:
        contents = [(await self._stores.mounts.get(mount_id)).content for mount_id in definition.mount_ids]
        client = [content for content in contents if content.startswith(CLIENT_REFERENCE)]
        return client, tuple(content for content in contents if not content.startswith(CLIENT_REFERENCE))

    def _environment(
        self, function: KnownFunction, task_id: str, content: ImageContent, environment: str
    ) -> dict[str, str]:
        return {
            "PATH": _PATH,
            "HOME": _HOME,
            "PYTHONUNBUFFERED": "1",
            **content.environment,
            "PYTHONPATH": ":".join(filter(None, (_HOME, "/pkg", content.environment.get("PYTHONPATH")))),
            "MODAL_SERVER_URL": "{server}",
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": task_id,
            "MODAL_IMAGE_ID": function.definition.image_id,
            "MODAL_ENVIRONMENT": environment,
            "MODAL_CLOUD_PROVIDER": "jiffy",
            "MODAL_REGION": "local",
            "MODAL_CONTAINER_ARGUMENTS_PATH": _ARGUMENTS,
        }

    async def _arguments(self, function: KnownFunction, task_id: str) -> api_pb2.ContainerArguments:
        app = await self._stores.apps.get(function.app_id)
        dependencies = [function.base_id, *(each.object_id for each in function.definition.object_dependencies)]
        layout = await make_layout(self._stores, app, dependencies)
        name = function.definition.function_name
        if layout.function_ids.get(name) != function.base_id:
            layout.function_ids[name] = function.base_id
        return api_pb2.ContainerArguments(
            task_id=task_id,
            function_id=function.function_id,
            app_id=function.app_id,
            function_def=function.definition,
            serialized_params=function.parameters,
            environment_name=app.environment,
            app_layout=layout,
        )


def _ignore(line: str) -> None:
    """What is made late, after the image was built, has nobody to report to."""
