-- The part of an AI Horde 5.1.5 database that is taken over, as its catalogue describes it.
-- Defaults that count are left out: rows here bring their numbers along.

CREATE TYPE userrecordtypes AS ENUM ('CONTRIBUTION', 'USAGE', 'FULFILLMENT', 'REQUEST', 'STYLE');

CREATE TYPE userroletypes AS ENUM ('MODERATOR', 'TRUSTED', 'FLAGGED', 'CUSTOMIZER', 'VPN', 'SPECIAL', 'SERVICE', 'EDUCATION', 'DELETED');

CREATE TABLE users (
    id INTEGER NOT NULL,
    username VARCHAR NOT NULL,
    oauth_id VARCHAR NOT NULL,
    api_key VARCHAR NOT NULL,
    client_id VARCHAR NOT NULL,
    created TIMESTAMP NOT NULL,
    last_active TIMESTAMP NOT NULL,
    contact VARCHAR,
    admin_comment TEXT,
    proxy_passkey VARCHAR,
    kudos BIGINT NOT NULL,
    monthly_kudos INTEGER NOT NULL,
    monthly_kudos_last_received TIMESTAMP,
    evaluating_kudos INTEGER NOT NULL,
    usage_multiplier DOUBLE PRECISION NOT NULL,
    worker_invited INTEGER NOT NULL,
    public_workers BOOLEAN NOT NULL,
    concurrency INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (client_id)
);

CREATE TABLE user_roles (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    user_role userroletypes NOT NULL,
    value BOOLEAN NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, user_role),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_records (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    record_type userrecordtypes NOT NULL,
    record VARCHAR NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, record_type, record),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_stats (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    action VARCHAR NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, action),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_suspicions (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    suspicion_id INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE user_sharedkeys (
    id UUID NOT NULL,
    user_id INTEGER NOT NULL,
    kudos BIGINT NOT NULL,
    created TIMESTAMP NOT NULL,
    expiry TIMESTAMP,
    name VARCHAR,
    utilized BIGINT NOT NULL,
    max_image_pixels INTEGER NOT NULL,
    max_image_steps INTEGER NOT NULL,
    max_text_tokens INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE teams (
    id UUID NOT NULL,
    info VARCHAR,
    name VARCHAR NOT NULL,
    owner_id INTEGER NOT NULL,
    contributions BIGINT NOT NULL,
    fulfilments INTEGER NOT NULL,
    kudos BIGINT NOT NULL,
    uptime BIGINT NOT NULL,
    created TIMESTAMP NOT NULL,
    last_active TIMESTAMP NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name),
    FOREIGN KEY (owner_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE workers (
    id UUID NOT NULL,
    worker_type VARCHAR NOT NULL,
    user_id INTEGER,
    name VARCHAR NOT NULL,
    info VARCHAR,
    ipaddr VARCHAR,
    created TIMESTAMP,
    last_check_in TIMESTAMP,
    last_aborted_job TIMESTAMP,
    kudos BIGINT NOT NULL,
    contributions BIGINT NOT NULL,
    fulfilments INTEGER NOT NULL,
    aborted_jobs INTEGER NOT NULL,
    uncompleted_jobs INTEGER NOT NULL,
    uptime BIGINT NOT NULL,
    threads INTEGER NOT NULL,
    bridge_agent TEXT NOT NULL,
    last_reward_uptime BIGINT NOT NULL,
    max_power INTEGER NOT NULL,
    extra_slow_worker BOOLEAN NOT NULL,
    paused BOOLEAN NOT NULL,
    maintenance BOOLEAN NOT NULL,
    maintenance_msg VARCHAR NOT NULL,
    team_id UUID,
    allow_unsafe_ipaddr BOOLEAN NOT NULL,
    speed DOUBLE PRECISION NOT NULL,
    nsfw BOOLEAN NOT NULL,
    max_length INTEGER NOT NULL,
    max_context_length INTEGER NOT NULL,
    max_pixels BIGINT NOT NULL,
    allow_img2img BOOLEAN NOT NULL,
    allow_painting BOOLEAN NOT NULL,
    allow_post_processing BOOLEAN NOT NULL,
    allow_controlnet BOOLEAN NOT NULL,
    allow_sdxl_controlnet BOOLEAN NOT NULL,
    allow_lora BOOLEAN NOT NULL,
    limit_max_steps BOOLEAN NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    FOREIGN KEY (team_id) REFERENCES teams(id)
);

CREATE TABLE user_problem_jobs (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    ipaddr VARCHAR NOT NULL,
    proxied_account VARCHAR,
    job_id UUID NOT NULL,
    created TIMESTAMP NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_stats (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    action VARCHAR NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (worker_id, action),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_models (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    model VARCHAR,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_blacklists (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    word VARCHAR,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_performances (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    performance DOUBLE PRECISION,
    created TIMESTAMP,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_suspicions (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    suspicion_id INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE worker_messages (
    id UUID NOT NULL,
    worker_id UUID,
    user_id INTEGER,
    message TEXT,
    origin VARCHAR,
    expiry TIMESTAMP,
    created TIMESTAMP,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE,
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE interrogation_worker_forms (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    form VARCHAR,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE text_worker_softprompts (
    id INTEGER NOT NULL,
    worker_id UUID NOT NULL,
    softprompt VARCHAR,
    PRIMARY KEY (id),
    FOREIGN KEY (worker_id) REFERENCES workers(id) ON DELETE CASCADE
);

CREATE TABLE styles (
    id UUID NOT NULL,
    style_type VARCHAR NOT NULL,
    info VARCHAR,
    showcase VARCHAR,
    name VARCHAR NOT NULL,
    public BOOLEAN NOT NULL,
    nsfw BOOLEAN NOT NULL,
    prompt TEXT NOT NULL,
    params JSONB NOT NULL,
    use_count INTEGER NOT NULL DEFAULT 0,
    votes INTEGER NOT NULL DEFAULT 0,
    created TIMESTAMP NOT NULL,
    updated TIMESTAMP NOT NULL,
    user_id INTEGER NOT NULL,
    sharedkey_id UUID,
    PRIMARY KEY (id),
    UNIQUE (user_id, name),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    FOREIGN KEY (sharedkey_id) REFERENCES user_sharedkeys(id)
);

CREATE TABLE style_tags (
    id INTEGER NOT NULL,
    style_id UUID NOT NULL,
    tag VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (style_id) REFERENCES styles(id) ON DELETE CASCADE
);

CREATE TABLE style_models (
    id INTEGER NOT NULL,
    style_id UUID NOT NULL,
    model VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (style_id) REFERENCES styles(id) ON DELETE CASCADE
);

CREATE TABLE style_examples (
    id UUID NOT NULL,
    style_id UUID NOT NULL,
    url TEXT NOT NULL,
    "primary" BOOLEAN NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (style_id) REFERENCES styles(id) ON DELETE CASCADE
);

CREATE TABLE style_collections (
    id UUID NOT NULL,
    style_type VARCHAR NOT NULL,
    info VARCHAR,
    name VARCHAR NOT NULL,
    use_count INTEGER NOT NULL DEFAULT 0,
    public BOOLEAN NOT NULL,
    created TIMESTAMP NOT NULL,
    updated TIMESTAMP NOT NULL,
    user_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, name),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE style_collection_mapping (
    style_id UUID NOT NULL,
    collection_id UUID NOT NULL,
    PRIMARY KEY (style_id, collection_id),
    FOREIGN KEY (style_id) REFERENCES styles(id) ON DELETE CASCADE,
    FOREIGN KEY (collection_id) REFERENCES style_collections(id) ON DELETE CASCADE
);

CREATE TABLE filters (
    id INTEGER NOT NULL,
    regex TEXT,
    filter_type INTEGER NOT NULL,
    description TEXT,
    replacement VARCHAR,
    user_id INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE kudos_ledger (
    id BIGINT NOT NULL,
    created TIMESTAMP NOT NULL,
    event_id UUID NOT NULL,
    entry_type VARCHAR NOT NULL,
    user_id INTEGER NOT NULL,
    escrow BOOLEAN NOT NULL,
    amount NUMERIC NOT NULL,
    applied BOOLEAN NOT NULL,
    job_id UUID,
    wp_type VARCHAR,
    detail JSONB,
    CHECK ((amount <> 'NaN'::numeric)),
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE RESTRICT
);

CREATE TABLE kudos_stat_events (
    id BIGINT NOT NULL,
    created TIMESTAMP NOT NULL,
    event_id UUID NOT NULL,
    entry_type VARCHAR NOT NULL,
    user_id INTEGER,
    worker_user_id INTEGER,
    worker_id UUID,
    team_id UUID,
    job_id UUID,
    wp_type VARCHAR,
    amount NUMERIC NOT NULL,
    unit VARCHAR NOT NULL,
    stat_action VARCHAR,
    record VARCHAR,
    detail JSONB,
    applied BOOLEAN NOT NULL,
    CHECK ((((user_id IS NOT NULL) AND (worker_id IS NULL)) OR ((user_id IS NULL) AND (worker_id IS NOT NULL)))),
    CHECK ((amount <> 'NaN'::numeric)),
    PRIMARY KEY (id)
);

CREATE TABLE waiting_prompts (
    id UUID NOT NULL,
    wp_type VARCHAR NOT NULL,
    prompt TEXT NOT NULL,
    user_id INTEGER,
    params JSONB NOT NULL,
    gen_payload JSONB NOT NULL,
    extra_source_images JSONB,
    nsfw BOOLEAN NOT NULL,
    ipaddr VARCHAR,
    safe_ip BOOLEAN NOT NULL,
    trusted_workers BOOLEAN NOT NULL,
    validated_backends BOOLEAN NOT NULL,
    slow_workers BOOLEAN NOT NULL,
    extra_slow_workers BOOLEAN NOT NULL,
    worker_blacklist BOOLEAN NOT NULL,
    faulted BOOLEAN NOT NULL,
    active BOOLEAN NOT NULL,
    consumed_kudos INTEGER NOT NULL,
    kudos DOUBLE PRECISION NOT NULL DEFAULT 0,
    n INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    things BIGINT NOT NULL,
    total_usage DOUBLE PRECISION NOT NULL,
    extra_priority INTEGER NOT NULL,
    job_ttl INTEGER NOT NULL,
    disable_batching BOOLEAN NOT NULL,
    webhook VARCHAR,
    traceparent VARCHAR,
    client_agent TEXT NOT NULL,
    sharedkey_id UUID,
    proxied_account VARCHAR,
    expiry TIMESTAMP,
    created TIMESTAMP,
    max_length INTEGER NOT NULL DEFAULT 80,
    max_context_length INTEGER NOT NULL DEFAULT 2048,
    softprompt VARCHAR,
    width INTEGER NOT NULL DEFAULT 512,
    height INTEGER NOT NULL DEFAULT 512,
    source_image TEXT,
    source_processing VARCHAR NOT NULL DEFAULT 'img2img',
    source_mask TEXT,
    censor_nsfw BOOLEAN NOT NULL DEFAULT false,
    seed BIGINT,
    seed_variation INTEGER,
    r2 BOOLEAN NOT NULL DEFAULT false,
    shared BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    FOREIGN KEY (sharedkey_id) REFERENCES user_sharedkeys(id) ON DELETE CASCADE
);

CREATE TABLE interrogations (
    id UUID NOT NULL,
    source_image TEXT,
    user_id INTEGER NOT NULL,
    ipaddr VARCHAR,
    safe_ip BOOLEAN NOT NULL,
    trusted_workers BOOLEAN NOT NULL,
    slow_workers BOOLEAN NOT NULL,
    image_tiles INTEGER NOT NULL,
    r2stored BOOLEAN NOT NULL,
    expiry TIMESTAMP,
    created TIMESTAMP,
    extra_priority INTEGER NOT NULL,
    webhook VARCHAR,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
