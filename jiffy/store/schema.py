"""The tables, as migrations: each brings a database from one version to the next, and never changes once released.

Messages of the wire API are kept as they came (protobuf bytes), with the columns that decisions need beside them.
Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE tokens (
        token_id TEXT PRIMARY KEY,
        secret_sha256 TEXT NOT NULL,
        created_at REAL NOT NULL
    );

    CREATE TABLE apps (
        app_id TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        state INTEGER NOT NULL,
        created_at REAL NOT NULL,
        heartbeat_at REAL NOT NULL,
        stopped_at REAL,
        function_ids TEXT NOT NULL DEFAULT '{}',
        class_ids TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX live_apps ON apps (app_id) WHERE stopped_at IS NULL;

    CREATE TABLE functions (
        function_id TEXT PRIMARY KEY,
        app_id TEXT NOT NULL REFERENCES apps,
        name TEXT NOT NULL,
        handle BLOB NOT NULL,
        definition BLOB
    );

    CREATE TABLE mounts (
        mount_id TEXT PRIMARY KEY,
        content TEXT NOT NULL,
        checksum TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE TABLE mount_names (
        namespace INTEGER NOT NULL,
        name TEXT NOT NULL,
        mount_id TEXT NOT NULL REFERENCES mounts,
        PRIMARY KEY (namespace, name)
    );

    CREATE TABLE images (
        image_id TEXT PRIMARY KEY,
        builder_version TEXT NOT NULL,
        definition BLOB NOT NULL,
        content TEXT,
        created_at REAL NOT NULL
    );
    CREATE TABLE made_indexes (
        name TEXT PRIMARY KEY,
        content TEXT NOT NULL,
        created_at REAL NOT NULL
    );

    CREATE TABLE blobs (
        blob_id TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        digest TEXT,
        created_at REAL NOT NULL
    );

    CREATE TABLE calls (
        call_id TEXT PRIMARY KEY,
        function_id TEXT NOT NULL REFERENCES functions,
        app_id TEXT NOT NULL REFERENCES apps,
        invocation_type INTEGER NOT NULL,
        created_at REAL NOT NULL,
        cancelled_at REAL
    );
    CREATE INDEX calls_of_app ON calls (app_id);

    CREATE TABLE inputs (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        input_id TEXT NOT NULL UNIQUE,
        call_id TEXT NOT NULL REFERENCES calls,
        function_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        retry_count INTEGER NOT NULL DEFAULT 0,
        losses INTEGER NOT NULL DEFAULT 0,
        task_id TEXT,
        claimed_at REAL,
        claim_key TEXT,
        finished_at REAL
    );
    CREATE INDEX unfinished_inputs_of_function ON inputs (function_id, task_id, position) WHERE finished_at IS NULL;
    CREATE INDEX claimed_inputs ON inputs (task_id) WHERE task_id IS NOT NULL AND finished_at IS NULL;
    CREATE INDEX unfinished_inputs_of_call ON inputs (call_id) WHERE finished_at IS NULL;

    CREATE TABLE outputs (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        call_id TEXT NOT NULL REFERENCES calls,
        input_id TEXT NOT NULL UNIQUE,
        number INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX outputs_of_call ON outputs (call_id, position);

    CREATE TABLE tasks (
        task_id TEXT PRIMARY KEY,
        function_id TEXT NOT NULL REFERENCES functions,
        app_id TEXT NOT NULL REFERENCES apps,
        worker_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        hello_at REAL,
        ready_at REAL,
        first_output_at REAL,
        ended_at REAL,
        address TEXT,
        phases TEXT NOT NULL DEFAULT '{}',
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX live_tasks ON tasks (task_id) WHERE ended_at IS NULL;
    CREATE INDEX tasks_of_app ON tasks (app_id);

    CREATE TABLE logs (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        app_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        function_id TEXT NOT NULL,
        stream INTEGER NOT NULL,
        text TEXT NOT NULL,
        written_at REAL NOT NULL
    );
    CREATE INDEX logs_of_app ON logs (app_id, position);

    CREATE TABLE acknowledged_events (
        worker_id TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE profiles (
        name TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        runs INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE secrets (
        secret_id TEXT PRIMARY KEY,
        environment TEXT NOT NULL,
        name TEXT,
        app_id TEXT NOT NULL,
        variables TEXT NOT NULL,
        created_at REAL NOT NULL,
        UNIQUE (environment, name)
    );

    ALTER TABLE images ADD COLUMN identity TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN salt TEXT NOT NULL DEFAULT '';
    ALTER TABLE images ADD COLUMN build_function_id TEXT NOT NULL DEFAULT '';
    CREATE INDEX images_of_identity ON images (identity, created_at);

    CREATE TABLE image_names (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        image_id TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE INDEX image_names_by_name ON image_names (environment, name, position);

    CREATE TABLE image_references (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    """,
    """
    ALTER TABLE inputs ADD COLUMN created_at REAL NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE tokens ADD COLUMN kind TEXT NOT NULL DEFAULT 'client';
    """,
    """
    CREATE TABLE leadership (
        address TEXT NOT NULL,
        term INTEGER NOT NULL,
        expires_at REAL NOT NULL
    );
    INSERT INTO leadership (address, term, expires_at) VALUES ('', 0, 0);
    """,
    """
    CREATE TABLE machines (
        machine_id TEXT PRIMARY KEY,
        offer TEXT NOT NULL,
        price REAL NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX live_machines ON machines (machine_id) WHERE ended_at IS NULL;
    """,
    """
    ALTER TABLE apps ADD COLUMN environment TEXT NOT NULL DEFAULT 'main';
    ALTER TABLE apps ADD COLUMN name TEXT NOT NULL DEFAULT '';
    ALTER TABLE apps ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE apps ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
    CREATE UNIQUE INDEX apps_by_name ON apps (environment, name) WHERE name <> '' AND stopped_at IS NULL;
    CREATE TABLE app_versions (
        app_id TEXT NOT NULL REFERENCES apps,
        version INTEGER NOT NULL,
        deployed_at REAL NOT NULL,
        deployed_by TEXT NOT NULL,
        client_version TEXT NOT NULL,
        tag TEXT NOT NULL,
        commit_info BLOB NOT NULL,
        function_ids TEXT NOT NULL,
        class_ids TEXT NOT NULL,
        definition_ids TEXT NOT NULL,
        rollback_version INTEGER NOT NULL DEFAULT 0,
        request_id TEXT NOT NULL,
        PRIMARY KEY (app_id, version)
    );
    CREATE TABLE environments (
        name TEXT PRIMARY KEY,
        web_suffix TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    INSERT INTO environments (name, web_suffix, created_at) VALUES ('main', '', 0);
    CREATE TABLE endpoints (
        host TEXT PRIMARY KEY,
        function_id TEXT NOT NULL REFERENCES functions,
        app_id TEXT NOT NULL REFERENCES apps,
        method TEXT NOT NULL,
        is_guarded INTEGER NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE TABLE schedules (
        function_id TEXT PRIMARY KEY REFERENCES functions,
        app_id TEXT NOT NULL REFERENCES apps,
        schedule BLOB NOT NULL,
        next_at REAL NOT NULL
    );
    CREATE INDEX schedules_by_time ON schedules (next_at);

    CREATE TABLE definitions (
        definition_id TEXT PRIMARY KEY,
        function_id TEXT NOT NULL,
        handle BLOB NOT NULL,
        definition BLOB NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE INDEX definitions_of_function ON definitions (function_id);
    ALTER TABLE functions ADD COLUMN definition_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE functions ADD COLUMN base_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE functions ADD COLUMN parameters BLOB;
    ALTER TABLE functions ADD COLUMN options BLOB;
    ALTER TABLE functions ADD COLUMN scaling TEXT NOT NULL DEFAULT '{}';

    ALTER TABLE calls ADD COLUMN parent_input_id TEXT NOT NULL DEFAULT '';
    CREATE INDEX calls_of_input ON calls (parent_input_id) WHERE parent_input_id <> '';
    CREATE INDEX calls_of_function ON calls (function_id, created_at);
    CREATE INDEX old_calls ON calls (created_at);
    ALTER TABLE inputs ADD COLUMN available_at REAL NOT NULL DEFAULT 0;
    CREATE INDEX delayed_inputs ON inputs (function_id, available_at)
        WHERE available_at > 0 AND task_id IS NULL AND finished_at IS NULL;
    CREATE INDEX inputs_of_call ON inputs (call_id, number);
    CREATE TABLE call_chunks (
        call_id TEXT NOT NULL REFERENCES calls,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (call_id, number)
    );

    CREATE TABLE named_objects (
        object_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        name TEXT,
        app_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        beat_at REAL,
        UNIQUE (kind, environment, name)
    );
    CREATE INDEX ephemeral_objects ON named_objects (beat_at) WHERE beat_at IS NOT NULL;
    CREATE TABLE volumes (
        object_id TEXT PRIMARY KEY REFERENCES named_objects,
        fs_version INTEGER NOT NULL,
        head TEXT NOT NULL
    );
    CREATE TABLE volume_uses (
        task_id TEXT NOT NULL,
        head TEXT NOT NULL,
        PRIMARY KEY (task_id, head)
    );
    CREATE TABLE dict_entries (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        object_id TEXT NOT NULL REFERENCES named_objects,
        name BLOB NOT NULL,
        value BLOB NOT NULL,
        used_at REAL NOT NULL,
        UNIQUE (object_id, name)
    );
    CREATE TABLE queue_items (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        object_id TEXT NOT NULL REFERENCES named_objects,
        partition BLOB NOT NULL,
        value BLOB NOT NULL,
        expires_at REAL NOT NULL
    );
    CREATE INDEX queue_items_in_order ON queue_items (object_id, partition, position);
    """,
    """
    ALTER TABLE functions ADD COLUMN created_at REAL NOT NULL DEFAULT 0;
    CREATE INDEX variants ON functions (base_id, created_at) WHERE base_id <> '';

    ALTER TABLE tokens ADD COLUMN expires_at REAL;
    ALTER TABLE tokens ADD COLUMN approved_by TEXT NOT NULL DEFAULT '';
    """,
)
