-- Rows for the tables of `aihorde.sql`: some recorded ones, and a few hundred made of numbers.
-- The secret is `old secret`; the key of account n is `key-of-n`.

-- Recorded.
INSERT INTO users (id, username, oauth_id, api_key, client_id, created, last_active, contact, admin_comment, proxy_passkey, kudos, monthly_kudos, monthly_kudos_last_received, evaluating_kudos, usage_multiplier, worker_invited, public_workers, concurrency) VALUES
    (1, 'user_one', 'bb_user_one', '731dd2c8de2f8f197367505acdd75fc06526a049b7d12256c9f4def71dbdec72', 'WabZ7G2HkS4hq9SOSm7oDw', '2026-11-23T20:12:31.229448', '2026-11-23T20:12:31.229457', NULL, NULL, NULL, 1000000, 0, NULL, 0, 1, 0, FALSE, 30),
    (3, 'test_admin', 'bb_admin', 'a187894533ce27cc8c81573f5df2b695b13306c50d60b871794ccb3e178846fc', 'xcRxs74pvCa9_eFcC04F4A', '2026-11-23T20:12:31.583238', '2026-11-23T20:12:31.583245', NULL, NULL, NULL, 1000000, 0, NULL, 0, 1, 0, FALSE, 30),
    (0, 'Anonymous', 'anon', '60767d98606aa7fa300285c48ba43f13392947fa3543410e03f9af7e55bcf062', '4edlEp-Dolo7nmIAlniq1A', '2026-11-23T20:12:30.738734', '2026-11-23T20:12:30.73874', NULL, NULL, NULL, -1, 0, NULL, 0, 1, 0, TRUE, 500),
    (10, 'user_efe84f5e', 'oauth_efe84f5e', 'e0d3c1412521ffbed17bc1138331e09f9bcf222dc97e55926c564b6329ef72e3', 'D9-T-1siI165ICC2e5xqdg', '2026-11-23T20:13:16.719785', '2026-11-23T20:13:16.719792', NULL, NULL, NULL, 0, 0, NULL, 0, 1, 0, FALSE, 30);

UPDATE users
SET api_key = encode(sha256(convert_to('old secret0000000000', 'UTF8')), 'hex')
WHERE id = 0;

-- Made.
INSERT INTO users
SELECT n, 'user ' || n, CASE WHEN n % 3 = 0 THEN gen_random_uuid()::text ELSE 'g_' || n END,
    encode(sha256(convert_to('old secretkey-of-' || n, 'UTF8')), 'hex'), 'client ' || n,
    TIMESTAMP '2024-01-01' + n * INTERVAL '1 hour', TIMESTAMP '2026-11-01',
    CASE WHEN n % 5 = 0 THEN 'mail ' || n END, CASE WHEN n = 7 THEN 'a note' END,
    CASE WHEN n = 9 THEN 'passkey-nine' END, n * 101 - 404, CASE WHEN n = 8 THEN 2000 ELSE 0 END,
    CASE WHEN n = 8 THEN TIMESTAMP '2026-11-10' END, n % 7 * 10, 1.25, n % 4, n % 2 = 0, 30 + n % 3
FROM generate_series(2, 300) AS n
WHERE n NOT IN (3, 10);

-- Accounts that share what must be unique.
UPDATE users SET oauth_id = 'wiped' WHERE id IN (290, 291);

INSERT INTO user_roles (id, user_id, user_role, value) VALUES
    (1, 1, 'TRUSTED', TRUE),
    (2, 2, 'MODERATOR', TRUE),
    (3, 2, 'TRUSTED', TRUE),
    (4, 3, 'MODERATOR', TRUE);

INSERT INTO user_roles
SELECT 100 + n, n, CASE n % 8 WHEN 0 THEN 'FLAGGED' WHEN 1 THEN 'CUSTOMIZER' WHEN 2 THEN 'VPN'
        WHEN 3 THEN 'SPECIAL' WHEN 4 THEN 'SERVICE' WHEN 5 THEN 'EDUCATION' WHEN 6 THEN 'DELETED'
        ELSE 'TRUSTED' END::userroletypes, n % 16 < 12
FROM generate_series(20, 120) AS n;

INSERT INTO user_records (id, user_id, record_type, record, value) VALUES
    (116, 51, 'FULFILLMENT', 'image', 4),
    (117, 51, 'CONTRIBUTION', 'image', 0),
    (1, 2, 'FULFILLMENT', 'interrogation', 4),
    (2, 2, 'CONTRIBUTION', 'interrogation', 0);

INSERT INTO user_stats (id, user_id, action, value) VALUES
    (19, 2, 'styled', 2),
    (23, 7, 'awarded', 5000),
    (24, 8, 'admin', 1000),
    (25, 9, 'recurring', 500);

INSERT INTO user_records
SELECT 1000 + n, n, 'CONTRIBUTION', 'image', n + 0.25
FROM generate_series(100, 200) AS n;

INSERT INTO user_records
SELECT 2000 + n, n, 'USAGE', 'text', n * 3
FROM generate_series(100, 200) AS n;

INSERT INTO user_stats
SELECT 3000 + n, n, 'gifted', -n
FROM generate_series(100, 200) AS n;

INSERT INTO user_suspicions
SELECT n, 100 + n % 10, n % 10
FROM generate_series(1, 40) AS n;

INSERT INTO user_sharedkeys
SELECT uuid('00000000-0000-4000-8000-' || lpad(n::text, 12, '0')), n % 50 + 1,
    CASE n % 4 WHEN 0 THEN -1 ELSE n * 10 END, TIMESTAMP '2026-01-01',
    CASE WHEN n % 3 = 0 THEN TIMESTAMP '2030-01-01' END, 'key ' || n, n, -1, 50, -1
FROM generate_series(1, 60) AS n
WHERE n % 50 + 1 <> 10;

INSERT INTO teams
SELECT uuid('00000000-0000-4000-9000-' || lpad(n::text, 12, '0')), 'info', 'Team ' || n, n + 1, n * 7,
    n * 3, n * 11, n * 600, TIMESTAMP '2025-01-01', TIMESTAMP '2026-01-01'
FROM generate_series(1, 5) AS n;

INSERT INTO workers (id, worker_type, user_id, name, info, ipaddr, created, last_check_in, last_aborted_job, kudos, contributions, fulfilments, aborted_jobs, uncompleted_jobs, uptime, threads, bridge_agent, last_reward_uptime, max_power, extra_slow_worker, paused, maintenance, maintenance_msg, team_id, allow_unsafe_ipaddr, speed, nsfw, max_length, max_context_length, max_pixels, allow_img2img, allow_painting, allow_post_processing, allow_controlnet, allow_sdxl_controlnet, allow_lora, limit_max_steps) VALUES
    ('fffb14b2-c7c5-49f3-9637-4661f38a0a75', 'stable_worker', 2, 'wx', NULL, '127.0.0.1', '2026-11-23T20:13:24.226114', '2026-11-23T20:13:24.228297', '2026-11-23T20:13:24.226124', 0, 0, 0, 0, 0, 0, 1, 'aihorde_ci_client:1.0:(test)ci', 0, 20, FALSE, FALSE, FALSE, 'This worker has been put into maintenance mode by its owner', NULL, TRUE, 1000000, TRUE, 80, 2048, 262144, TRUE, TRUE, TRUE, FALSE, FALSE, FALSE, FALSE),
    ('1aff96aa-ddc1-4c74-b0cf-0470bebfce93', 'interrogation_worker', 2, 'CICD Fake Alchemist', NULL, '127.0.0.1', '2026-11-23T20:12:33.237525', '2026-11-23T20:12:33.651691', '2026-11-23T20:12:33.237534', 4, 0, 4, 0, 0, 0, 1, 'aihorde_ci_client:0.1.1:(discord)db0#1625', 0, 96, FALSE, FALSE, FALSE, 'This worker has been put into maintenance mode by its owner', NULL, TRUE, 0.046788750000000004, FALSE, 80, 2048, 262144, TRUE, TRUE, TRUE, FALSE, FALSE, FALSE, FALSE),
    ('d7361d33-9e99-4edf-9056-3e214ec31fae', 'stable_worker', 2, 'CICD Fake Dreamer', NULL, '127.0.0.1', '2026-11-23T20:12:34.271057', '2026-11-23T20:12:39.017806', '2026-11-23T20:12:34.271067', 168, 38, 4, 0, 0, 4, 1, 'AI Horde Worker reGen:9.0.1-citests:https://github.com/Haidra-Org/horde-worker-reGen', 0, 20, FALSE, FALSE, FALSE, 'This worker has been put into maintenance mode by its owner', NULL, TRUE, 493582616.975, TRUE, 80, 2048, 4194304, TRUE, TRUE, TRUE, TRUE, TRUE, TRUE, FALSE),
    ('9ad7eb5e-863f-4bdd-b729-867d4bd79dd2', 'text_worker', 40, 'Cycle Scribe', NULL, '127.0.0.1', '2026-11-23T20:13:43.439913', '2026-11-23T20:13:43.441504', '2026-11-23T20:13:43.439923', 6, 80, 1, 0, 0, 0, 1, 'aihorde_ci_client:1.0:(test)ci', 0, 20, FALSE, FALSE, FALSE, 'This worker has been put into maintenance mode by its owner', NULL, TRUE, 226.6, TRUE, 512, 4096, 262144, TRUE, TRUE, TRUE, FALSE, FALSE, FALSE, FALSE);

INSERT INTO workers
SELECT uuid('00000000-0000-4000-a000-' || lpad(n::text, 12, '0')),
    CASE n % 3 WHEN 0 THEN 'stable_worker' WHEN 1 THEN 'text_worker' ELSE 'interrogation_worker' END,
    n + 1, 'Worker ' || n, 'mine', '192.0.2.' || n, TIMESTAMP '2025-01-01', TIMESTAMP '2026-11-20',
    TIMESTAMP '2025-01-01', n * 10, n * 2, n, 0, 1, n * 600, 1, 'old bridge:1:here', 0, 20, FALSE,
    n % 10 = 0, n % 7 = 0, 'rest', CASE WHEN n % 6 = 0
        THEN uuid('00000000-0000-4000-9000-' || lpad((n / 6 % 5 + 1)::text, 12, '0')) END,
    TRUE, 1000000, n % 2 = 0, 80, 2048, 1048576, TRUE, TRUE, TRUE, FALSE, FALSE, n % 4 = 0, FALSE
FROM generate_series(1, 90) AS n
WHERE n NOT IN (9);

-- Workers that cannot be taken: another's name, no owner, no such kind.
INSERT INTO workers
SELECT uuid('00000000-0000-4000-b000-' || lpad(n::text, 12, '0')),
    CASE n WHEN 3 THEN 'dancing_worker' ELSE 'stable_worker' END, CASE n WHEN 2 THEN NULL ELSE 2 END,
    CASE n WHEN 1 THEN 'Worker 1' ELSE 'Odd ' || n END, NULL, NULL, TIMESTAMP '2025-01-01',
    TIMESTAMP '2026-11-20', NULL, 0, 0, 0, 0, 0, 0, 1, 'old bridge:1:here', 0, 20, FALSE, FALSE, FALSE,
    'rest', NULL, TRUE, 1, TRUE, 80, 2048, 1048576, TRUE, TRUE, TRUE, FALSE, FALSE, FALSE, FALSE
FROM generate_series(1, 3) AS n;

INSERT INTO worker_models (id, worker_id, model) VALUES
    (5, 'd7361d33-9e99-4edf-9056-3e214ec31fae', 'AlbedoBase XL (SDXL)'),
    (6, 'd7361d33-9e99-4edf-9056-3e214ec31fae', 'Fustercluck'),
    (7, 'fffb14b2-c7c5-49f3-9637-4661f38a0a75', 'stable_diffusion');

INSERT INTO worker_stats (id, worker_id, action, value) VALUES
    (1, '1aff96aa-ddc1-4c74-b0cf-0470bebfce93', 'interrogated', 4),
    (5, 'd7361d33-9e99-4edf-9056-3e214ec31fae', 'generated', 168),
    (13, '9ad7eb5e-863f-4bdd-b729-867d4bd79dd2', 'generated', 6);

INSERT INTO worker_stats
SELECT 100 + n, uuid('00000000-0000-4000-a000-' || lpad(n::text, 12, '0')), 'uptime', n * 4
FROM generate_series(1, 8) AS n;

INSERT INTO worker_models
SELECT 100 + n, uuid('00000000-0000-4000-a000-' || lpad(n::text, 12, '0')), 'stable_diffusion'
FROM generate_series(10, 90) AS n;

INSERT INTO worker_performances
SELECT n, uuid('00000000-0000-4000-a000-000000000012'), n * 1000, TIMESTAMP '2026-01-01' + n * INTERVAL '1 second'
FROM generate_series(1, 25) AS n;

INSERT INTO worker_suspicions
SELECT n, uuid('00000000-0000-4000-a000-000000000015'), 5
FROM generate_series(1, 3) AS n;

INSERT INTO interrogation_worker_forms
VALUES (1, uuid('00000000-0000-4000-a000-000000000002'), 'caption');

INSERT INTO worker_messages
VALUES (uuid('00000000-0000-4000-c000-000000000001'), NULL, 2, 'Hello all', 'Moderators', TIMESTAMP '2099-01-01', TIMESTAMP '2026-11-20'),
    (uuid('00000000-0000-4000-c000-000000000002'), NULL, 2, 'Long ago', 'Moderators', TIMESTAMP '2020-01-01', TIMESTAMP '2019-11-20');

INSERT INTO user_problem_jobs
SELECT n, 20, uuid('00000000-0000-4000-a000-000000000003'), '198.51.100.1', NULL,
    uuid('00000000-0000-4000-d000-' || lpad(n::text, 12, '0')), TIMESTAMP '2026-11-01'
FROM generate_series(1, 4) AS n;

INSERT INTO styles
SELECT uuid('00000000-0000-4000-e000-' || lpad(n::text, 12, '0')), CASE WHEN n % 4 = 0 THEN 'text' ELSE 'image' END,
    'A style of many', NULL, 'style ' || n, n % 5 > 0, FALSE, '{p}, in style ' || n || '{np}',
    CASE WHEN n = 40 THEN '{"max_length": "very long"}' WHEN n % 4 = 0 THEN '{"temperature": 0.5}'
        ELSE '{"width": 512, "height": 512, "steps": 8, "sampler_name": null}' END::jsonb,
    n * 3, 0, TIMESTAMP '2026-01-01' + n * INTERVAL '1 minute', TIMESTAMP '2026-01-01', n % 20 + 1,
    CASE WHEN n = 3 THEN uuid('00000000-0000-4000-8000-000000000003') END
FROM generate_series(1, 40) AS n
WHERE n % 20 + 1 <> 10;

INSERT INTO style_models
SELECT 10 + row_number() OVER (ORDER BY id), id, 'ordu-tiny'
FROM styles
WHERE style_type = 'image';

INSERT INTO style_tags
SELECT 10 + row_number() OVER (ORDER BY id), id, 'old'
FROM styles;

INSERT INTO style_examples
SELECT uuid('00000000-0000-4000-8111-' || lpad(n::text, 12, '0')), uuid('00000000-0000-4000-e000-000000000003'),
    'https://example.org/' || n || '.webp', n = 2
FROM generate_series(1, 3) AS n;

INSERT INTO style_collections
SELECT uuid('00000000-0000-4000-f000-' || lpad(n::text, 12, '0')), 'image', NULL, 'set ' || n, n, TRUE,
    TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-01', n
FROM generate_series(1, 6) AS n;

INSERT INTO style_collection_mapping
SELECT uuid('00000000-0000-4000-e000-' || lpad(s::text, 12, '0')), uuid('00000000-0000-4000-f000-' || lpad(c::text, 12, '0'))
FROM generate_series(1, 3) AS s, generate_series(1, 6) AS c;

INSERT INTO filters
SELECT n, CASE n WHEN 7 THEN '(' WHEN 9 THEN 'word4' ELSE 'word' || n END, CASE n WHEN 8 THEN 99 ELSE 10 END,
    'a word', NULL, 2
FROM generate_series(1, 30) AS n;

INSERT INTO kudos_ledger (id, created, event_id, entry_type, user_id, escrow, amount, applied, job_id, wp_type, detail) VALUES
    (1, '2026-11-23T20:12:33.410799', 'fb8c163d-4d20-4eef-9313-22977b5bf9e5', 'GENERATION', 2, FALSE, 1.0, TRUE, '9ab724f6-cf5d-48a6-8ee0-a22e5ac36187', 'interrogation', NULL),
    (2, '2026-11-23T20:12:33.434931', 'fb8c163d-4d20-4eef-9313-22977b5bf9e5', 'GENERATION', 2, FALSE, -3.0, TRUE, '9ab724f6-cf5d-48a6-8ee0-a22e5ac36187', 'interrogation', '{"reservation_id": "interrogation:9ab724f6-cf5d-48a6-8ee0-a22e5ac36187"}'),
    (3, '2026-11-23T20:12:33.559752', '42853411-7e55-4737-ac8d-783a888904e5', 'GENERATION', 2, FALSE, 1.0, TRUE, '45a1d6da-b28b-4544-b940-88a36f5d4076', 'interrogation', NULL),
    (4, '2026-11-23T20:12:33.577145', '42853411-7e55-4737-ac8d-783a888904e5', 'GENERATION', 2, FALSE, -3.0, TRUE, '45a1d6da-b28b-4544-b940-88a36f5d4076', 'interrogation', '{"reservation_id": "interrogation:45a1d6da-b28b-4544-b940-88a36f5d4076"}');

-- Moved, and not in the balances yet.
INSERT INTO kudos_ledger
SELECT 100 + n, TIMESTAMP '2026-11-23', gen_random_uuid(), 'GENERATION', 4, n = 3, 0.75, FALSE, NULL, NULL, NULL
FROM generate_series(1, 3) AS n;
