//! Two people through everything that a horde has for people, by the program and HTTP alone.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ordu_core::Kudos;
use ordu_server::Clock;
use ordu_store::{DatabaseUrl, Options, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::program::{Running, ordu, run_json};

/// How long anything may take, far longer than it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody with a key.
struct Person {
    key: String,
    id: String,
    alias: String,
}

/// The horde as people see it.
struct Scene {
    url: String,
    http: reqwest::Client,
}

impl Scene {
    async fn call(&self, who: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self
            .http
            .request(method, format!("{}/api/v2{path}", self.url));
        let request = request.header("apikey", who);
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// A call that must be answered with yes.
    async fn done(&self, who: &str, method: Method, path: &str, body: Value) -> Value {
        let shown = format!("{method} {path} {body}");
        let (status, answer) = self.call(who, method, path, body).await;
        assert!(status < 300, "{shown}: {status} {answer}");
        answer
    }

    async fn register(&self, name: &str) -> Person {
        let made = self
            .done("", Method::POST, "/users", json!({ "username": name }))
            .await;
        Person {
            key: text(&made["api_key"]),
            id: made["id"].to_string(),
            alias: text(&made["alias"]),
        }
    }

    async fn see(&self, who: &str, path: &str) -> Value {
        self.done(who, Method::GET, path, Value::Null).await
    }

    /// Looks again and again until something is seen.
    async fn wait(&self, who: &str, path: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let seen = self.see(who, path).await;
            if is_there(&seen) {
                return seen;
            }
            assert!(began.elapsed() < PATIENCE, "{path}: {seen}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn kudos(value: &Value) -> f64 {
    value["kudos"].as_f64().unwrap()
}

/// A worker that ends with the test.
struct Working(Child);

impl Drop for Working {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const EASEL: &str = "the easel";

fn start_worker(folder: &Path, horde: &str, owner: &Person) -> Working {
    let mut command = ordu(folder);
    command.args(["work", "--horde", horde, "--api-key", &owner.key]);
    command.args(["--name", EASEL, "--dreamer"]);
    Working(command.stdout(Stdio::null()).spawn().unwrap())
}

/// A small picture by the command line.
fn imagine(folder: &Path, horde: &str, key: &str, more: &[&str]) {
    let arguments = [
        "imagine",
        "a red circle on blue",
        "--horde",
        horde,
        "--api-key",
        key,
    ];
    let small = ["--size", "64x64", "--steps", "4", "--json"];
    let limit = ["--timeout", "300"];
    run_json(folder, &[&arguments[..], &small, &limit, more].concat());
}

#[test]
fn two_people_walk_the_whole_way() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let server = Running::start(
        folder,
        &["serve", "--no-rate-limits", "--json-registration"],
    );
    let moderator = run_json(
        folder,
        &[
            "admin",
            "user",
            "add",
            "--name",
            "mia",
            "--moderator",
            "--data",
            "data",
            "--json",
        ],
    );
    let moderator = text(&moderator["api_key"]);
    // An error means that there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scene = Scene {
        url: server.url.clone(),
        http: reqwest::Client::new(),
    };
    runtime.block_on(async {
        let (ada, ben) = (scene.register("ada").await, scene.register("ben").await);
        let easel = earn(&scene, folder, &moderator, (&ada, &ben)).await;
        let style = share(&scene, folder, (&ada, &ben), &easel).await;
        be_paused_and_freed(&scene, &moderator, (&ada, &ben), &easel).await;
        leave(&scene, &moderator, (&ada, &ben), &easel, &style).await;
    });
    assert_eq!(server.terminate(), Some(0));
    runtime.block_on(books_are_closed(folder));
}

/// Ada's worker paints for Ben; she earns, half of it in escrow, until a moderator trusts her.
async fn earn(scene: &Scene, folder: &Path, moderator: &str, people: (&Person, &Person)) -> String {
    let (ada, ben) = people;
    let worker = start_worker(folder, &scene.url, ada);
    imagine(folder, &scene.url, &ben.key, &["-n", "20"]);
    let profile = format!("/users/{}", ada.id);
    let earned = scene
        .wait(moderator, &profile, |seen| {
            seen["records"]["fulfillment"]["image"] == 20
        })
        .await;
    assert!(
        earned["evaluating_kudos"].as_f64().unwrap() > 0.0,
        "{earned}"
    );
    let trusted = json!({ "trusted": true });
    scene.done(moderator, Method::PUT, &profile, trusted).await;
    scene
        .wait(moderator, &profile, |seen| {
            seen["evaluating_kudos"].as_f64() == Some(0.0)
        })
        .await;
    let shown = scene.see(&ada.key, "/workers/name/the%20easel").await;
    assert_eq!(shown["requests_fulfilled"], 20, "{shown}");
    // It must not compete with the jobs that are handed in by hand below.
    drop(worker);
    text(&shown["id"])
}

/// Ada makes a team, a style and a shared key; Ben paints with her style and on her account.
async fn share(scene: &Scene, folder: &Path, people: (&Person, &Person), easel: &str) -> String {
    let (ada, ben) = people;
    let team = json!({ "name": "the studio", "info": "all that paint" });
    let team = scene.done(&ada.key, Method::POST, "/teams", team).await;
    let joined = json!({ "team": team["id"] });
    let path = format!("/workers/{easel}");
    let joined = scene.done(&ada.key, Method::PUT, &path, joined).await;
    assert_eq!(joined["team"], "the studio");

    let style = json!({ "name": "blue", "prompt": "{p} on blue{np}", "models": ["ordu-tiny"],
                        "params": { "steps": 4, "width": 64, "height": 64 } });
    let style = scene
        .done(&ada.key, Method::POST, "/styles/image", style)
        .await;
    let key = json!({ "name": "for ben", "kudos": 5000 });
    let key = scene.done(&ada.key, Method::PUT, "/sharedkeys", key).await;
    let key = text(&key["id"]);

    let worker = start_worker(folder, &scene.url, ada);
    imagine(folder, &scene.url, &ben.key, &["--style", "blue"]);
    imagine(folder, &scene.url, &key, &[]);
    drop(worker);
    let team = format!("/teams/{}", text(&team["id"]));
    scene
        .wait("0000000000", &team, |seen| seen["requests_fulfilled"] == 2)
        .await;
    scene
        .wait(&ada.key, "/find_user", |seen| {
            seen["kudos_details"]["styled"] == 2.0
        })
        .await;
    let path = format!("/sharedkeys/{key}");
    let used = scene
        .wait(&ada.key, &path, |seen| seen["utilized"] != 0)
        .await;
    assert!(kudos(&used) < 5000.0, "{used}");

    let before = scene
        .wait(&ada.key, "/find_user", |seen| kudos(seen) > 20.0)
        .await;
    let given = json!({ "username": ben.alias, "amount": 5 });
    scene
        .done(&ada.key, Method::POST, "/kudos/transfer", given)
        .await;
    // What she has is counted a little later than what it was spent on.
    let left = kudos(&before) - 5.0;
    scene
        .wait(&ada.key, "/find_user", |seen| {
            seen["kudos_details"]["gifted"] == -5.0 && (kudos(seen) - left).abs() < 0.01
        })
        .await;
    text(&style["id"])
}

/// A moderator pauses Ada's worker, which is only kept busy then, and frees it again.
async fn be_paused_and_freed(
    scene: &Scene,
    moderator: &str,
    people: (&Person, &Person),
    easel: &str,
) {
    let (ada, ben) = people;
    let path = format!("/workers/{easel}");
    let pause =
        |paused: bool| scene.done(moderator, Method::PUT, &path, json!({ "paused": paused }));
    pause(true).await;
    let ask = || async {
        let wanted = json!({ "prompt": "a red circle", "models": ["ordu-tiny"],
                             "params": { "width": 64, "height": 64, "steps": 4 } });
        let asked = scene
            .done(&ben.key, Method::POST, "/generate/async", wanted)
            .await;
        format!("/generate/check/{}", text(&asked["id"]))
    };
    let check = ask().await;
    work_once(scene, ada).await;
    let seen = scene.see(&ben.key, &check).await;
    assert_eq!(
        (&seen["waiting"], &seen["finished"]),
        (&json!(1), &json!(0)),
        "{seen}"
    );
    // What it was kept busy with it is never shown again, so Ben gives that up and asks anew.
    let status = check.replace("check", "status");
    scene
        .done(&ben.key, Method::DELETE, &status, Value::Null)
        .await;
    pause(false).await;
    let check = ask().await;
    work_once(scene, ada).await;
    let seen = scene.see(&ben.key, &check).await;
    assert_eq!(seen["done"], true, "{seen}");
}

/// One pop and one submit of Ada's worker.
async fn work_once(scene: &Scene, ada: &Person) {
    let pop = json!({ "name": EASEL, "models": ["ordu-tiny"], "max_pixels": 4_194_304,
                      "bridge_agent": "AI Horde Worker reGen:14.0.0:here" });
    let job = scene
        .done(&ada.key, Method::POST, "/generate/pop", pop)
        .await;
    let id = job["id"]
        .as_str()
        .unwrap_or_else(|| panic!("nothing to do: {job}"));
    let upload = text(&job["r2_upload"]);
    let picture = b"RIFF\0\0\0\0WEBP".to_vec();
    scene
        .http
        .put(upload)
        .body(picture)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    let submit = json!({ "id": id, "generation": "R2", "state": "ok", "seed": 1 });
    let paid = scene
        .done(&ada.key, Method::POST, "/generate/submit", submit)
        .await;
    assert!(paid["reward"].as_f64().unwrap() > 0.0, "{paid}");
}

/// Ada takes back what she made; both leave.
async fn leave(
    scene: &Scene,
    moderator: &str,
    people: (&Person, &Person),
    easel: &str,
    style: &str,
) {
    let (ada, ben) = people;
    let delete = |path: String| async move {
        scene
            .done(&ada.key, Method::DELETE, &path, Value::Null)
            .await;
    };
    delete(format!("/styles/image/{style}")).await;
    delete(format!("/workers/{easel}")).await;
    let teams = scene.see(&ada.key, "/teams").await;
    delete(format!("/teams/{}", text(&teams[0]["id"]))).await;
    for person in [ada, ben] {
        let path = format!("/users/{}", person.id);
        scene
            .done(&person.key, Method::DELETE, &path, Value::Null)
            .await;
        let seen = scene.see(&person.key, "/find_user").await;
        assert_eq!(seen["deleted"], true, "{seen}");
        let wanted = json!({ "prompt": "one more" });
        let (status, refused) = scene
            .call(&person.key, Method::POST, "/generate/async", wanted)
            .await;
        assert_eq!((status, &refused["rc"]), (403, &json!("DeletedUser")));
    }
    let (status, _) = scene
        .call(&ben.key, Method::GET, "/operations/audit", Value::Null)
        .await;
    assert_eq!(status, 403);
    let log = scene.see(moderator, "/operations/audit").await.to_string();
    assert!(log.contains("trusted") && log.contains("paused"), "{log}");
}

/// Nothing was made or lost on the way.
async fn books_are_closed(folder: &Path) {
    let url = format!("sqlite://{}", folder.join("data/ordu.db").display());
    let url: DatabaseUrl = url.parse().unwrap();
    let store = Store::open(&url, &Options::default(), Clock::System.now())
        .await
        .unwrap();
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
}
