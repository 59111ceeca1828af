-- What one of several nodes tells the others. Filled by triggers that are there only while several
-- nodes share a PostgreSQL database: one node alone writes nothing here.
CREATE TABLE changes (
    -- The transaction that made the change: by it a reader knows what it has not seen yet.
    xact BIGINT NOT NULL,
    -- Which node made it; NULL if it was none, such as the command line.
    node UUID,
    -- Of what kind the changed thing is, and which one.
    noun TEXT NOT NULL,
    subject TEXT NOT NULL,
    happened_at BIGINT NOT NULL
);

CREATE INDEX changes_xact ON changes (xact);

-- The nodes that share this database, by the clock of the database.
CREATE TABLE nodes (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    started BIGINT NOT NULL,
    beat BIGINT NOT NULL
);
