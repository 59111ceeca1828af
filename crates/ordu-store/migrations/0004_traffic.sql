-- The passkeys of service accounts are read every few seconds; few accounts have one.
CREATE INDEX users_passkey ON users (id) WHERE proxy_passkey IS NOT NULL;

-- The first answer to a request that came with an idempotency key, and to what body, as JSON.
ALTER TABLE requests ADD COLUMN answer TEXT;

-- Results that requesters are still to be told about. A row lives until its message is delivered
-- or a day old, longer than its request; so there is no foreign key.
CREATE TABLE webhooks (
    -- The job or form that was finished.
    id UUID PRIMARY KEY,
    request UUID NOT NULL,
    -- Whose request it is.
    owner BIGINT NOT NULL,
    -- Messages of one request go out in this order.
    turn BIGINT NOT NULL,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    payload TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- When to try next; while a message is on its way, when it counts as lost.
    due BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX webhooks_due ON webhooks (due);
CREATE INDEX webhooks_turn ON webhooks (request, turn);
