-- How busy the horde was, by kind and slice of time: `span` milliseconds from `start` on. Sums over
-- the samples, of which there is one a minute at most, whichever server takes it.
CREATE TABLE loads (
    kind TEXT NOT NULL,
    span BIGINT NOT NULL,
    start BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    queued BIGINT NOT NULL,
    workers BIGINT NOT NULL,
    -- The minute of the newest sample.
    newest BIGINT NOT NULL,
    PRIMARY KEY (kind, span, start)
);

-- All models together are counted by the day as well from now on; the days that hours are kept of
-- are known already.
INSERT INTO statistics (kind, model, span, start, jobs, things)
SELECT kind, model, 86400000, start - start % 86400000, CAST(SUM(jobs) AS BIGINT),
    CAST(SUM(things) AS BIGINT)
FROM statistics
WHERE model = '' AND span = 3600000
GROUP BY kind, model, start - start % 86400000;

-- The movements of one account, newest first. Neither the mint nor the account that everybody
-- shares has a history. The fold adds a line here, so that who waits for a commit does not pay for it.
CREATE INDEX ledger_source ON ledger (source, happened_at) WHERE folded AND source > 1;
CREATE INDEX ledger_target ON ledger (target, happened_at) WHERE folded AND target > 1;
