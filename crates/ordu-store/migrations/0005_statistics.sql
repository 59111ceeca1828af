-- The model of a delivered job; NULL where nothing is counted by model.
ALTER TABLE activity ADD COLUMN model TEXT;

-- An activity is deleted by the fold that counts it.
DELETE FROM activity WHERE folded;

-- What was made, by kind, model ('' for all models) and slice of time: `span` milliseconds from
-- `start` on, 0 for all time. Moved by the fold; slices that no window shows any more are deleted.
CREATE TABLE statistics (
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    span BIGINT NOT NULL,
    start BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    things BIGINT NOT NULL,
    PRIMARY KEY (kind, model, span, start)
);

-- One row a job that ended, for a week: what it was, never what it showed. Written behind.
CREATE TABLE archive (
    job UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    -- ok, censored, faulted.
    state TEXT NOT NULL,
    assigned_at BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX archive_finished ON archive (finished_at);

-- The newest speeds as a JSON array, oldest first; drops in the window that began at `drops_since`.
ALTER TABLE workers ADD COLUMN speeds TEXT NOT NULL DEFAULT '[]';
ALTER TABLE workers ADD COLUMN drops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN drops_since BIGINT NOT NULL DEFAULT 0;
