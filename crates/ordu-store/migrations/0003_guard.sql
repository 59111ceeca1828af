-- Prompt filters of the moderators.
CREATE TABLE filters (
    id BIGINT PRIMARY KEY,
    regex TEXT NOT NULL,
    kind BIGINT NOT NULL,
    description TEXT,
    replacement TEXT NOT NULL DEFAULT '',
    -- Who changed it last.
    editor BIGINT NOT NULL,
    UNIQUE (kind, regex)
);

INSERT INTO sequences (name, next) VALUES ('filter', 1);

-- Addresses and blocks that were reported or shut out. What is lifted stays for a while, with
-- nothing in it, so that every node learns of it.
CREATE TABLE addresses (
    network TEXT NOT NULL,
    is_block BOOLEAN NOT NULL,
    suspicion BIGINT NOT NULL,
    suspicion_until BIGINT NOT NULL,
    shut_until BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (network, is_block)
);

CREATE INDEX addresses_changed ON addresses (changed);

-- What speaks against accounts (worker is empty) and workers. A count of 0 was forgotten.
CREATE TABLE suspicions (
    owner BIGINT NOT NULL,
    worker TEXT NOT NULL,
    reason BIGINT NOT NULL,
    count BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (owner, worker, reason)
);

CREATE INDEX suspicions_changed ON suspicions (changed);

-- Jobs that workers reported as illegal.
CREATE TABLE problem_jobs (
    job UUID PRIMARY KEY,
    owner BIGINT NOT NULL,
    -- An account of a service's own, named by it.
    proxied_account TEXT,
    address TEXT,
    worker UUID NOT NULL,
    happened_at BIGINT NOT NULL
);

CREATE INDEX problem_jobs_owner ON problem_jobs (owner, happened_at);
CREATE INDEX problem_jobs_address ON problem_jobs (address, happened_at);

-- What moderators are told.
CREATE TABLE notices (
    id UUID PRIMARY KEY,
    kind TEXT NOT NULL,
    -- Whom it is about, so that nobody is told twice within a window.
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    prompt TEXT,
    happened_at BIGINT NOT NULL
);

CREATE INDEX notices_happened_at ON notices (happened_at);
CREATE INDEX notices_subject ON notices (subject, happened_at);
