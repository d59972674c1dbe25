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
)
