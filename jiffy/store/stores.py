"""All of a server's durable state, by noun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jiffy.extras import load_extra
from jiffy.store.apps import Apps
from jiffy.store.base import POSTGRES_SCHEMES, Database
from jiffy.store.blobs import Blobs
from jiffy.store.call_chunks import CallChunks
from jiffy.store.call_history import CallHistory
from jiffy.store.calls import Calls
from jiffy.store.ciphers import Cipher, NoCipher
from jiffy.store.dicts import Dicts
from jiffy.store.endpoints import Endpoints
from jiffy.store.environments import Environments
from jiffy.store.functions import Functions
from jiffy.store.image_names import ImageNames
from jiffy.store.images import Images
from jiffy.store.input_history import InputHistory
from jiffy.store.logs import Logs
from jiffy.store.machines import Machines
from jiffy.store.mounts import Mounts
from jiffy.store.named_objects import NamedObjects
from jiffy.store.profiles import Profiles
from jiffy.store.queue_items import QueueItems
from jiffy.store.references import ReferenceStore
from jiffy.store.schedules import Schedules
from jiffy.store.secrets import Secrets
from jiffy.store.sqlite import SqliteDatabase
from jiffy.store.tasks import Tasks
from jiffy.store.tokens import Tokens
from jiffy.store.volumes import Volumes

if TYPE_CHECKING:
    from jiffy.store.postgres import PostgresDatabase

_NO_CIPHER: Final = NoCipher()


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    apps: Apps
    blobs: Blobs
    call_chunks: CallChunks
    call_history: CallHistory
    calls: Calls
    dicts: Dicts
    endpoints: Endpoints
    environments: Environments
    functions: Functions
    images: Images
    image_names: ImageNames
    input_history: InputHistory
    logs: Logs
    machines: Machines
    mounts: Mounts
    named_objects: NamedObjects
    profiles: Profiles
    queue_items: QueueItems
    references: ReferenceStore
    schedules: Schedules
    secrets: Secrets
    tasks: Tasks
    tokens: Tokens
    volumes: Volumes

    def close(self) -> None:
        self.database.close()


def open_stores(address: str | Path) -> Stores:
    """Open the database at a `postgresql://` address, or open or create the SQLite file at a path."""
    if str(address).startswith(POSTGRES_SCHEMES):
        return make_stores(open_postgres(str(address)))
    return make_stores(SqliteDatabase(Path(address)))


def open_postgres(url: str) -> PostgresDatabase:
    """Its driver is loaded only where it is used."""
    engine = load_extra("jiffy.store.postgres", "PostgreSQL cannot be used as the store", "postgres")
    opened: PostgresDatabase = engine.PostgresDatabase(url)
    return opened


def make_stores(database: Database, cipher: Cipher = _NO_CIPHER) -> Stores:
    """`cipher` is for what is not to be read in the database."""
    return Stores(
        database=database,
        apps=Apps(database),
        blobs=Blobs(database),
        call_chunks=CallChunks(database),
        call_history=CallHistory(database),
        calls=Calls(database),
        dicts=Dicts(database),
        endpoints=Endpoints(database),
        environments=Environments(database),
        functions=Functions(database),
        images=Images(database),
        image_names=ImageNames(database),
        input_history=InputHistory(database),
        logs=Logs(database),
        machines=Machines(database),
        mounts=Mounts(database),
        named_objects=NamedObjects(database),
        profiles=Profiles(database),
        queue_items=QueueItems(database),
        references=ReferenceStore(database),
        schedules=Schedules(database),
        secrets=Secrets(database, cipher),
        tasks=Tasks(database),
        tokens=Tokens(database),
        volumes=Volumes(database),
    )
