-- Keys with a budget of their own, by which others spend their owner's kudos.
CREATE TABLE shared_keys (
    id UUID PRIMARY KEY,
    owner BIGINT NOT NULL,
    name TEXT,
    -- What is left, as far as folded; NULL for as much as the owner has.
    budget BIGINT CHECK (budget >= 0),
    utilized BIGINT NOT NULL DEFAULT 0,
    -- NULL for never, and for no limit.
    expires BIGINT,
    max_image_pixels BIGINT,
    max_image_steps BIGINT,
    max_text_tokens BIGINT,
    created BIGINT NOT NULL
);

CREATE INDEX shared_keys_owner ON shared_keys (owner);

-- What was spent through a key (negative: what was put into its budget): appended with the
-- movement that caused it, folded into the key, then deleted. Only what its owner pays counts.
-- No foreign key: it would lock the key's row.
CREATE TABLE shared_key_charges (
    event UUID PRIMARY KEY,
    shared_key UUID NOT NULL,
    amount BIGINT NOT NULL,
    happened_at BIGINT NOT NULL
);

CREATE INDEX shared_key_charges_key ON shared_key_charges (shared_key);
CREATE INDEX requests_shared_key ON requests (shared_key) WHERE shared_key IS NOT NULL;

CREATE TABLE styles (
    id UUID PRIMARY KEY,
    owner BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    info TEXT NOT NULL,
    prompt TEXT NOT NULL,
    -- JSON: an object, and lists of texts.
    params TEXT NOT NULL,
    models TEXT NOT NULL,
    tags TEXT NOT NULL,
    public BOOLEAN NOT NULL,
    nsfw BOOLEAN NOT NULL,
    shared_key UUID,
    use_count BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    UNIQUE (owner, name)
);

CREATE INDEX styles_name ON styles (name);
CREATE INDEX styles_shared_key ON styles (shared_key) WHERE shared_key IS NOT NULL;

-- Named sets of styles of one kind.
CREATE TABLE collections (
    id UUID PRIMARY KEY,
    owner BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    info TEXT NOT NULL,
    public BOOLEAN NOT NULL,
    use_count BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    UNIQUE (owner, name)
);

CREATE INDEX collections_name ON collections (name);

CREATE TABLE collection_styles (
    collection UUID NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    style UUID NOT NULL REFERENCES styles (id) ON DELETE CASCADE,
    place BIGINT NOT NULL,
    PRIMARY KEY (collection, style)
);

CREATE INDEX collection_styles_style ON collection_styles (style);

-- What moderators and owners tell workers; without a worker it is for all of them.
CREATE TABLE worker_messages (
    id UUID PRIMARY KEY,
    author BIGINT NOT NULL,
    worker UUID,
    message TEXT NOT NULL,
    origin TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE INDEX worker_messages_expires ON worker_messages (expires);
CREATE INDEX worker_messages_worker ON worker_messages (worker);

-- Who sent kudos to whom lately.
CREATE INDEX ledger_transfers ON ledger (source, target, happened_at) WHERE reason = 'transfer';
