-- What was built, as hosts are told (the feed). The numbers never come again: a host goes on from the last one that it has heard of.
CREATE TABLE news (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- When the pipeline ended; milliseconds since 1970, by GitLab's clock.
    at INTEGER NOT NULL,
    project INTEGER NOT NULL,
    path TEXT NOT NULL,
    -- Where the project's images are, such as registry.example.com/images/app.
    images TEXT NOT NULL,
    pipeline INTEGER NOT NULL
);
