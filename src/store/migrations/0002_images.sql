-- Images that no project builds: when each is looked up, and what was found. Times are milliseconds since 1970; `next_at` is by the host's
-- clock, all others by GitLab's.

CREATE TABLE image_look (
    name TEXT PRIMARY KEY,
    next_at INTEGER NOT NULL,
    -- When its registry has answered last.
    looked_at INTEGER,
    -- Since when it does not, and what it says.
    failed_since INTEGER,
    error TEXT
);

-- Every digest that a name has stood for, in order. The numbers never come again: they are the ids of successes.
CREATE TABLE image_digest (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    -- Of the index, or of the manifest where there is none.
    digest TEXT NOT NULL,
    -- Of the image for the chain's platform.
    platform_digest TEXT NOT NULL,
    -- Whether the latter was another before; false for the first.
    moved INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
);

CREATE INDEX image_digest_name ON image_digest (name, id);

-- What a project's last success was built on.
CREATE TABLE built (
    project INTEGER PRIMARY KEY REFERENCES project (id) ON DELETE CASCADE,
    -- The pipeline that was looked at; 0 before the first.
    pipeline INTEGER NOT NULL,
    -- unknown, new or old.
    verdict TEXT NOT NULL,
    -- For people.
    words TEXT NOT NULL,
    since INTEGER NOT NULL
);
