//! The rows. Columns: no key, an unknown one, the anonymous one, an account that has nothing to do
//! with it, its owner, a moderator, an admin, a shared key of its owner.

use super::Row;

pub(super) const MATRIX: &[Row] = &[
    ("POST", "/generate/async", "400 401 202 202 202 202 202 202"),
    (
        "GET",
        "/generate/check/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/generate/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "DELETE",
        "/generate/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "POST",
        "/generate/rate/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    ("POST", "/generate/pop", "400 401 403 200 200 200 200 401"),
    (
        "POST",
        "/generate/submit",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "POST",
        "/generate/progress",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "GET",
        "/generate/events/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "POST",
        "/generate/text/async",
        "400 401 202 202 202 202 202 202",
    ),
    (
        "GET",
        "/generate/text/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "DELETE",
        "/generate/text/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "POST",
        "/generate/text/pop",
        "400 401 403 200 200 200 200 401",
    ),
    (
        "POST",
        "/generate/text/submit",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "POST",
        "/interrogate/async",
        "400 401 202 202 202 202 202 401",
    ),
    (
        "GET",
        "/interrogate/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "DELETE",
        "/interrogate/status/{id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "POST",
        "/interrogate/pop",
        "400 401 403 200 200 200 200 401",
    ),
    (
        "POST",
        "/interrogate/submit",
        "400 401 403 403 200 403 403 401",
    ),
    ("GET", "/workers", "200 200 200 200 200 200 200 200"),
    (
        "GET",
        "/workers/{worker_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/workers/name/{worker_name}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "PUT",
        "/workers/{worker_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "DELETE",
        "/workers/{worker_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "GET",
        "/workers/messages",
        "400 401 200 200 200 200 200 401",
    ),
    (
        "POST",
        "/workers/messages",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "GET",
        "/workers/messages/{message_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "DELETE",
        "/workers/messages/{message_id}",
        "400 401 403 403 200 200 200 401",
    ),
    ("GET", "/find_user", "401 404 200 200 200 200 200 200"),
    ("GET", "/users/{user_id}", "200 401 200 200 200 200 200 401"),
    ("PUT", "/users/{user_id}", "400 401 403 403 200 200 200 401"),
    (
        "DELETE",
        "/users/{user_id}",
        "401 401 403 403 200 200 200 401",
    ),
    ("GET", "/webhooks/secret", "400 401 403 200 200 200 200 401"),
    ("POST", "/dev/test-user", "201 200 200 200 200 200 200 200"),
    ("PUT", "/sharedkeys", "400 401 403 200 200 200 200 401"),
    (
        "GET",
        "/sharedkeys/{sharedkey_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "PATCH",
        "/sharedkeys/{sharedkey_id}",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "DELETE",
        "/sharedkeys/{sharedkey_id}",
        "400 401 403 403 200 403 403 401",
    ),
    ("POST", "/kudos/transfer", "400 401 400 200 200 200 200 401"),
    ("POST", "/kudos/award", "400 401 403 403 403 403 200 401"),
    (
        "GET",
        "/status/heartbeat",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/status/performance",
        "200 200 200 200 200 200 200 200",
    ),
    ("GET", "/status/models", "200 200 200 200 200 200 200 200"),
    (
        "GET",
        "/status/models/{model_name}",
        "200 200 200 200 200 200 200 200",
    ),
    ("GET", "/status/news", "200 200 200 200 200 200 200 200"),
    ("GET", "/status/modes", "200 401 403 403 403 200 200 401"),
    ("PUT", "/status/modes", "400 401 403 403 403 200 200 401"),
    (
        "GET",
        "/stats/img/totals",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/stats/img/models",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/stats/text/totals",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/stats/text/models",
        "200 200 200 200 200 200 200 200",
    ),
    ("GET", "/filters", "400 401 403 403 403 200 200 401"),
    ("PUT", "/filters", "400 401 403 403 403 200 200 401"),
    ("POST", "/filters", "400 401 403 403 403 200 200 401"),
    ("GET", "/filters/regex", "400 401 403 403 403 200 200 401"),
    (
        "GET",
        "/filters/{filter_id}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "PATCH",
        "/filters/{filter_id}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "DELETE",
        "/filters/{filter_id}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "GET",
        "/operations/ipaddr",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "POST",
        "/operations/ipaddr",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "DELETE",
        "/operations/ipaddr",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "GET",
        "/operations/ipaddr/{ipaddr}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "PUT",
        "/operations/block_worker_ipaddr/{worker_id}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "DELETE",
        "/operations/block_worker_ipaddr/{worker_id}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "GET",
        "/operations/notices",
        "400 401 403 403 403 200 200 401",
    ),
    ("GET", "/styles/image", "200 200 200 200 200 200 200 200"),
    ("POST", "/styles/image", "400 401 403 200 200 200 200 401"),
    (
        "GET",
        "/styles/image/{style_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "PATCH",
        "/styles/image/{style_id}",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "DELETE",
        "/styles/image/{style_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "GET",
        "/styles/image_by_name/{style_name}",
        "200 200 200 200 200 200 200 200",
    ),
    ("GET", "/styles/text", "200 200 200 200 200 200 200 200"),
    ("POST", "/styles/text", "400 401 403 200 200 200 200 401"),
    (
        "GET",
        "/styles/text/{style_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "PATCH",
        "/styles/text/{style_id}",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "DELETE",
        "/styles/text/{style_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "GET",
        "/styles/text_by_name/{style_name}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "POST",
        "/styles/image/{style_id}/example",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "PATCH",
        "/styles/image/{style_id}/example/{example_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "DELETE",
        "/styles/image/{style_id}/example/{example_id}",
        "400 401 403 403 200 200 200 401",
    ),
    ("GET", "/collections", "200 200 200 200 200 200 200 200"),
    ("POST", "/collections", "400 401 403 200 200 200 200 401"),
    (
        "GET",
        "/collections/{collection_id}",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "PATCH",
        "/collections/{collection_id}",
        "400 401 403 403 200 403 403 401",
    ),
    (
        "DELETE",
        "/collections/{collection_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "GET",
        "/collection_by_name/{collection_name}",
        "200 200 200 200 200 200 200 200",
    ),
    ("GET", "/users", "200 200 200 200 200 200 200 200"),
    ("POST", "/users", "201 201 201 201 201 201 201 201"),
    (
        "POST",
        "/users/{user_id}/key",
        "400 401 403 403 200 403 403 401",
    ),
    ("GET", "/teams", "200 200 200 200 200 200 200 200"),
    ("POST", "/teams", "400 401 403 200 200 200 200 401"),
    ("GET", "/teams/{team_id}", "200 401 200 200 200 200 200 401"),
    (
        "PATCH",
        "/teams/{team_id}",
        "400 401 403 403 200 200 200 401",
    ),
    (
        "DELETE",
        "/teams/{team_id}",
        "400 401 403 403 200 200 200 401",
    ),
    ("GET", "/documents/terms", "200 200 200 200 200 200 200 200"),
    (
        "GET",
        "/documents/privacy",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/documents/sponsors",
        "200 200 200 200 200 200 200 200",
    ),
    (
        "GET",
        "/operations/models",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "PUT",
        "/operations/models/{model_name}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "DELETE",
        "/operations/models/{model_name}",
        "400 401 403 403 403 200 200 401",
    ),
    (
        "GET",
        "/operations/audit",
        "400 401 403 403 403 200 200 401",
    ),
];
