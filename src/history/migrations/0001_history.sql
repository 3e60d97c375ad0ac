-- What has been. Times are milliseconds since 1970 by the host's clock, durations milliseconds, sizes bytes.

-- One row for each job of GitLab's, whatever its attempts: gitlab-runner tries a preparation that failed up to three times.
CREATE TABLE job (
    id           INTEGER PRIMARY KEY,
    lease        TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 1,
    instance     TEXT    NOT NULL,
    job_id       INTEGER NOT NULL,
    project_id   INTEGER NOT NULL,
    project_path TEXT    NOT NULL,
    name         TEXT,
    reference    TEXT,
    pipeline     INTEGER,
    protected    INTEGER NOT NULL,
    user_id      INTEGER,
    user_login   TEXT,
    profile      TEXT    NOT NULL,
    slot         INTEGER,
    outcome      TEXT    NOT NULL,
    exit_code    INTEGER,
    reason       TEXT,
    came         INTEGER NOT NULL,
    waited_ms    INTEGER NOT NULL,
    prepare_ms   INTEGER,
    ended        INTEGER NOT NULL,
    duration_ms  INTEGER NOT NULL,
    memory_peak  INTEGER,
    cpu_us       INTEGER,
    written      INTEGER,
    UNIQUE (instance, job_id)
);
CREATE INDEX job_came ON job (came);
CREATE INDEX job_ended ON job (ended);

CREATE TABLE stage (
    job       INTEGER NOT NULL REFERENCES job ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    began     INTEGER NOT NULL,
    ms        INTEGER,
    result    TEXT    NOT NULL,
    exit_code INTEGER,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

CREATE TABLE image (
    job      INTEGER NOT NULL REFERENCES job ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    role     TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    image_id TEXT    NOT NULL,
    digest   TEXT,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

-- By what a job's images are found: the hexadecimal digits of their digests and ids.
CREATE TABLE digest (
    digits TEXT    NOT NULL,
    job    INTEGER NOT NULL REFERENCES job ON DELETE CASCADE,
    PRIMARY KEY (digits, job)
) WITHOUT ROWID;
CREATE INDEX digest_job ON digest (job);

CREATE TABLE pull (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    image  TEXT    NOT NULL,
    digest TEXT,
    bytes  INTEGER,
    ms     INTEGER NOT NULL,
    result TEXT    NOT NULL
);
CREATE INDEX pull_at ON pull (at);

CREATE TABLE purge (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    project_path TEXT,
    bytes        INTEGER,
    age_s        INTEGER NOT NULL,
    rule         TEXT    NOT NULL
);
CREATE INDEX purge_at ON purge (at);

CREATE TABLE disk (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    path         TEXT    NOT NULL,
    free_bytes   INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    free_inodes  INTEGER NOT NULL,
    inodes       INTEGER NOT NULL,
    lanes_bytes  INTEGER,
    images_bytes INTEGER
);
CREATE INDEX disk_at ON disk (at);
