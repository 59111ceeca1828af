-- Teams of workers.
CREATE TABLE teams (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name in lower case as Unicode has it; the databases disagree on LOWER().
    name_folded TEXT NOT NULL UNIQUE,
    info TEXT,
    creator BIGINT NOT NULL,
    created BIGINT NOT NULL,
    -- Seconds that its workers were online. Written behind.
    uptime BIGINT NOT NULL DEFAULT 0,
    -- Moved by the fold: pictures, pixelsteps, millikudos.
    fulfilled BIGINT NOT NULL DEFAULT 0,
    things BIGINT NOT NULL DEFAULT 0,
    kudos BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX workers_team ON workers (team) WHERE team IS NOT NULL;

-- The team that a job counts for: the one its worker was in when it was settled.
ALTER TABLE activity ADD COLUMN team UUID;
