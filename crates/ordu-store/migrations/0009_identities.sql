-- What those who keep order did. No actor: the operator, at the command line.
CREATE TABLE audit (
    id UUID PRIMARY KEY,
    happened_at BIGINT NOT NULL,
    actor BIGINT,
    operation TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target TEXT NOT NULL,
    -- JSON: what was, and what is.
    before TEXT NOT NULL,
    after TEXT NOT NULL
);

CREATE INDEX audit_happened_at ON audit (happened_at);
CREATE INDEX audit_actor ON audit (actor, happened_at);
CREATE INDEX audit_target ON audit (target_kind, target, happened_at);

-- From where accounts were made that nobody vouches for: a keyed digest, never the address.
CREATE TABLE registrations (
    account BIGINT PRIMARY KEY,
    place TEXT NOT NULL,
    happened_at BIGINT NOT NULL
);

CREATE INDEX registrations_place ON registrations (place, happened_at);
