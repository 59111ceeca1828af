-- Pictures of untrusted workers that a trusted one has made once more. Thousandths of a distance:
-- 0 is the same picture, 1000 has nothing to do with it.
CREATE TABLE trust_audits (
    job UUID NOT NULL PRIMARY KEY,
    worker UUID NOT NULL,
    owner BIGINT NOT NULL,
    model TEXT NOT NULL,
    twin_worker UUID NOT NULL,
    distance BIGINT NOT NULL,
    differs BOOLEAN NOT NULL,
    happened_at BIGINT NOT NULL
);

CREATE INDEX trust_audits_worker ON trust_audits (worker, happened_at);
CREATE INDEX trust_audits_time ON trust_audits (happened_at);
