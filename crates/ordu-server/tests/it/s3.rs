//! A real S3-compatible store on a free port: it checks signatures and keeps files in a folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use ordu_server::{BlobPlace, S3Credentials, S3Place};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const KEY: &str = "test-key";
const SECRET: &str = "test/secret+";
const BUCKET: &str = "pictures";

/// A running store with one bucket.
pub(crate) struct S3Server {
    address: String,
    folder: TempDir,
    calls: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let service = service(folder.path());
        let counted = Arc::clone(&calls);
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let serve = any(move |request: Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            let service = (!gone.load(Ordering::Relaxed)).then(|| service.clone());
            answer(service, request)
        });
        let serving = tokio::spawn(async move {
            let router = Router::new().fallback_service(serve);
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            folder,
            calls,
            away,
            serving,
        }
    }

    /// Its bucket.
    pub(crate) fn place(&self) -> S3Place {
        S3Place {
            bucket: BUCKET.to_owned(),
            prefix: String::new(),
            endpoint: Some(self.address.parse().unwrap()),
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            credentials: S3Credentials {
                access_key_id: KEY.to_owned(),
                secret_access_key: SECRET.to_owned(),
                session_token: None,
            },
        }
    }

    pub(crate) fn blobs(&self) -> BlobPlace {
        BlobPlace::S3(Box::new(self.place()))
    }

    /// How often it was called so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Where its files lie.
    pub(crate) fn bucket(&self) -> std::path::PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Goes away: takes no connections any more, and answers on none that is open.
    pub(crate) fn stop(&self) {
        self.serving.abort();
        self.away.store(true, Ordering::Relaxed);
    }
}

fn service(folder: &Path) -> S3Service {
    let files = s3s_fs::FileSystem::new(folder).unwrap();
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    builder.build()
}

async fn answer(service: Option<S3Service>, request: Request) -> Response {
    let Some(service) = service else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let request = request.map(s3s::Body::http_body_unsync);
    service.call(request).await.unwrap().map(Body::new)
}
