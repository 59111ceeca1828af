-- Workers that something else than their server changed or deleted: servers look at them again.
CREATE TABLE worker_edits (
    worker UUID PRIMARY KEY,
    changed BIGINT NOT NULL
);

CREATE INDEX worker_edits_changed ON worker_edits (changed);
