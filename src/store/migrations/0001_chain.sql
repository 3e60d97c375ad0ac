-- Times are milliseconds since 1970, by GitLab's clock where they are of GitLab, else by the host's.

CREATE TABLE project (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    web_url TEXT NOT NULL,
    visibility TEXT,
    registry_prefix TEXT,
    default_branch TEXT,
    head TEXT,
    -- Since when it is not in the list of the chain's projects.
    absent_since INTEGER,
    -- What could not be read or done, a JSON list of texts.
    problems TEXT NOT NULL,
    -- What it builds on and nobody knows, a JSON list of texts.
    findings TEXT NOT NULL,
    seen INTEGER NOT NULL,
    latest_id INTEGER,
    latest_status TEXT,
    latest_created_at INTEGER,
    success_id INTEGER,
    success_at INTEGER,
    started_id INTEGER,
    started_inputs TEXT,
    paused INTEGER NOT NULL,
    wanted INTEGER,
    wanted_alone INTEGER NOT NULL,
    alone INTEGER,
    attempt_inputs TEXT,
    attempt_at INTEGER,
    attempt_outcome TEXT,
    attempt_detail TEXT,
    attempt_tries INTEGER,
    state TEXT NOT NULL,
    state_since INTEGER NOT NULL,
    notified TEXT,
    hook_id INTEGER,
    hook_secrets TEXT,
    hook_checked_at INTEGER,
    hook_problem TEXT
);

CREATE TABLE edge (
    project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    -- A JSON value: {"project": 7} or {"image": "docker.io/library/debian:stable"}.
    upstream TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    baseline TEXT NOT NULL,
    baseline_id INTEGER,
    baseline_at INTEGER,
    PRIMARY KEY (project, upstream)
);

CREATE TABLE file (
    project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (project, path)
);

CREATE TABLE image (
    name TEXT PRIMARY KEY,
    success_id INTEGER NOT NULL,
    success_at INTEGER NOT NULL
);

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,
    -- GitLab's key of the delivery, the same when it is sent again.
    delivery TEXT,
    project INTEGER NOT NULL,
    path TEXT NOT NULL,
    pipeline INTEGER NOT NULL,
    status TEXT NOT NULL,
    reference TEXT NOT NULL,
    source TEXT,
    finished_at TEXT,
    -- What became of it; none: nobody has looked yet.
    verdict TEXT
);

CREATE INDEX event_delivery ON event (delivery);
CREATE INDEX event_pipeline ON event (project, pipeline, id);
CREATE INDEX event_received ON event (received_at);
CREATE INDEX event_open ON event (id) WHERE verdict IS NULL;

CREATE TABLE start (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    project INTEGER NOT NULL,
    path TEXT NOT NULL,
    -- For people.
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,
    pipeline INTEGER
);

CREATE INDEX start_at ON start (at);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
