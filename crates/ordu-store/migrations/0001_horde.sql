-- Times are epoch milliseconds, kudos are millikudos, JSON is TEXT, ids are made by the server.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The next number of what is counted.
CREATE TABLE sequences (
    name TEXT PRIMARY KEY,
    next BIGINT NOT NULL
);

INSERT INTO sequences (name, next) VALUES ('user', 1);

CREATE TABLE users (
    id BIGINT PRIMARY KEY CHECK (id BETWEEN 0 AND 2147483647),
    username TEXT NOT NULL,
    key_hash TEXT UNIQUE,
    subject TEXT UNIQUE,
    moderator BOOLEAN NOT NULL DEFAULT FALSE,
    trusted BOOLEAN NOT NULL DEFAULT FALSE,
    flagged BOOLEAN NOT NULL DEFAULT FALSE,
    customizer BOOLEAN NOT NULL DEFAULT FALSE,
    vpn BOOLEAN NOT NULL DEFAULT FALSE,
    service BOOLEAN NOT NULL DEFAULT FALSE,
    education BOOLEAN NOT NULL DEFAULT FALSE,
    special BOOLEAN NOT NULL DEFAULT FALSE,
    deleted BOOLEAN NOT NULL DEFAULT FALSE,
    wiped BOOLEAN NOT NULL DEFAULT FALSE,
    public_workers BOOLEAN NOT NULL DEFAULT FALSE,
    contact TEXT,
    admin_comment TEXT,
    proxy_passkey TEXT,
    concurrency BIGINT NOT NULL,
    worker_invited BIGINT NOT NULL DEFAULT 0,
    usage_multiplier DOUBLE PRECISION NOT NULL DEFAULT 1.0,
    monthly_kudos BIGINT NOT NULL DEFAULT 0,
    monthly_received BIGINT,
    created BIGINT NOT NULL,
    last_active BIGINT NOT NULL,
    -- Balances: the opening ones plus every folded ledger line of the account.
    opening_spendable BIGINT NOT NULL DEFAULT 0,
    opening_escrow BIGINT NOT NULL DEFAULT 0,
    spendable BIGINT NOT NULL DEFAULT 0,
    escrow BIGINT NOT NULL DEFAULT 0
);

-- Sums per user, moved by the fold: `kudos.gifted`, `usage.image`, …
CREATE TABLE totals (
    owner BIGINT NOT NULL,
    name TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE TABLE workers (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The name in lower case as Unicode has it; the databases disagree on LOWER().
    name_folded TEXT NOT NULL,
    kind TEXT NOT NULL,
    owner BIGINT NOT NULL,
    agent TEXT NOT NULL,
    declared TEXT NOT NULL,
    paused BOOLEAN NOT NULL DEFAULT FALSE,
    maintenance BOOLEAN NOT NULL DEFAULT FALSE,
    maintenance_message TEXT,
    info TEXT,
    team UUID,
    ip TEXT,
    created BIGINT NOT NULL,
    last_check_in BIGINT NOT NULL,
    uptime BIGINT NOT NULL DEFAULT 0,
    uncompleted BIGINT NOT NULL DEFAULT 0,
    kudos_uptime BIGINT NOT NULL DEFAULT 0,
    -- Moved by the fold.
    fulfilled BIGINT NOT NULL DEFAULT 0,
    things BIGINT NOT NULL DEFAULT 0,
    kudos_generated BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX workers_name_folded ON workers (name_folded);
CREATE INDEX workers_owner ON workers (owner);

-- No foreign key to users: it would lock the row of the account that everybody shares.
CREATE TABLE requests (
    id UUID PRIMARY KEY,
    owner BIGINT NOT NULL,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    n BIGINT NOT NULL,
    -- Slots: waiting, at a worker, delivered; and how often a job failed.
    open BIGINT NOT NULL CHECK (open >= 0),
    running BIGINT NOT NULL DEFAULT 0 CHECK (running >= 0),
    done BIGINT NOT NULL DEFAULT 0,
    faults BIGINT NOT NULL DEFAULT 0,
    priority BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    -- live, finished, faulted, expired.
    state TEXT NOT NULL DEFAULT 'live',
    cancelled BOOLEAN NOT NULL DEFAULT FALSE,
    client_agent TEXT NOT NULL,
    ip TEXT,
    shared_key UUID,
    hold BIGINT NOT NULL DEFAULT 0,
    consumed BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX requests_live ON requests (created) WHERE state = 'live';
CREATE INDEX requests_ended ON requests (expires) WHERE state <> 'live';

CREATE TABLE jobs (
    id UUID PRIMARY KEY,
    request UUID NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    worker UUID NOT NULL,
    slot BIGINT,
    seed BIGINT,
    model TEXT NOT NULL,
    assigned_at BIGINT NOT NULL,
    ttl BIGINT NOT NULL,
    -- assigned, done, faulted, aborted.
    state TEXT NOT NULL DEFAULT 'assigned',
    finished_at BIGINT,
    result TEXT,
    kudos BIGINT
);

CREATE INDEX jobs_request ON jobs (request);
CREATE INDEX jobs_running ON jobs (worker) WHERE state = 'assigned';
CREATE UNIQUE INDEX jobs_slot ON jobs (request, slot) WHERE state IN ('assigned', 'done');

-- Double entry: amount leaves source and reaches target. Accounts are numbers:
-- -1 the mint, 2u what user u can spend, 2u+1 what user u has in escrow.
CREATE TABLE ledger (
    event UUID NOT NULL,
    reason TEXT NOT NULL,
    line BIGINT NOT NULL,
    source BIGINT NOT NULL,
    target BIGINT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    kind TEXT,
    happened_at BIGINT NOT NULL,
    folded BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (event, reason, line)
);

CREATE INDEX ledger_unfolded ON ledger (happened_at) WHERE NOT folded;

-- What an event adds to the statistics: one request of the requester, one fulfilment of owner and
-- worker, one use of a style.
CREATE TABLE activity (
    event UUID PRIMARY KEY,
    happened_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    requester BIGINT,
    usage BIGINT NOT NULL,
    owner BIGINT,
    worker UUID,
    things BIGINT NOT NULL,
    worker_kudos BIGINT NOT NULL,
    style_owner BIGINT,
    folded BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX activity_unfolded ON activity (happened_at) WHERE NOT folded;
