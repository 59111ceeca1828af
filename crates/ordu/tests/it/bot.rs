//! `ordu bot mastodon` with a real horde behind it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::fediverse::{Fediverse, Said, Streams, TOKEN};
use crate::program::{Running, ordu, text};

/// A bot that has begun to answer.
struct Bot {
    child: Child,
    heard: Option<JoinHandle<Vec<u8>>>,
}

impl Bot {
    fn start(folder: &Path, fediverse: &Fediverse, arguments: &[&str]) -> Self {
        let mut child = command(folder, fediverse)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "answering as @bot\n");
        let mut complaints = child.stderr.take().unwrap();
        // Somebody must read everything, or the bot would wait for that.
        let heard = std::thread::spawn(move || {
            let mut heard = Vec::new();
            complaints.read_to_end(&mut heard).unwrap();
            heard
        });
        Self {
            child,
            heard: Some(heard),
        }
    }

    /// Asks it to end; what it has said on standard error.
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        text(&self.heard.take().unwrap().join().unwrap())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, fediverse: &Fediverse) -> Command {
    let mut command = ordu(folder);
    command.args(["bot", "mastodon", "--data", "data", "--bot-size", "64x64"]);
    command.env("ORDU_MASTODON_URL", &fediverse.url);
    command.env("ORDU_MASTODON_TOKEN", TOKEN);
    command
}

fn said(said: &Said) -> &str {
    said.body["status"].as_str().unwrap()
}

#[test]
fn a_mention_gets_one_picture_in_reply() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let fediverse = Fediverse::start(Streams::Offered);
    fediverse.mention("early", "before the bot was there", &Value::Null);
    let bot = Bot::start(folder.path(), &fediverse, &[]);
    // The first look only finds out where to begin: it must be over before somebody asks.
    wait_for_memory(folder.path());
    let special = json!({
        "/status/visibility": "unlisted",
        "/status/sensitive": true,
        "/status/spoiler_text": "a circle",
    });
    fediverse.mention(
        "alice@far.example",
        "a red circle &amp; more --size 128x64",
        &special,
    );
    let reply = fediverse.next();
    assert!(
        said(&reply).starts_with("@alice@far.example ordu-tiny, seed "),
        "{reply:?}"
    );
    let expected = json!({
        "in_reply_to_id": "9000002", "visibility": "unlisted", "sensitive": true,
        "spoiler_text": "a circle", "language": "en", "status": said(&reply), "media_ids": ["1"],
    });
    assert_eq!(reply.body, expected);
    assert_eq!(reply.media[0].alt, "a red circle & more");
    let picture = image::load_from_memory(&reply.media[0].bytes).unwrap();
    assert_eq!((picture.width(), picture.height()), (128, 64));

    bot.kill();
    fediverse.mention(
        "bob",
        "a blue square",
        &json!({ "/status/visibility": "direct" }),
    );
    let bot = Bot::start(folder.path(), &fediverse, &[]);
    let reply = fediverse.next();
    assert!(said(&reply).starts_with("@bob "), "{reply:?}");
    assert_eq!(reply.body["visibility"], "direct");
    assert_eq!(reply.body["sensitive"], false);
    assert_eq!(fediverse.said(), 2);
    bot.end();
    assert_eq!(horde.terminate(), Some(0));
}

fn wait_for_memory(folder: &Path) {
    let path = folder.join("ordu-mastodon.json");
    let has_begun = || {
        let kept = std::fs::read(&path).unwrap_or_default();
        let kept: Value = serde_json::from_slice(&kept).unwrap_or_default();
        kept["since"].is_string()
    };
    while !has_begun() {
        std::thread::yield_now();
    }
}

#[test]
fn who_asks_wrongly_or_too_much_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let horde = Running::start(folder.path(), &["up"]);
    let fediverse = Fediverse::start(Streams::Unknown);
    let arguments = [
        "--bot-per-account",
        "1",
        "--bot-interval",
        "1",
        "--bot-max-side",
        "128",
        "--bot-at-once",
        "1",
    ];
    let bot = Bot::start(
        folder.path(),
        &fediverse,
        &[&arguments[..], &["--log", "debug"]].concat(),
    );
    wait_for_memory(folder.path());
    fediverse.fail(2);
    let robot = json!({ "/account/bot": true });
    fediverse.mention("robot", "hello", &robot);
    fediverse.mention("bot", "myself", &json!({ "/account/id": "1" }));
    fediverse.mention(
        "alice",
        "a prompt that nobody may read in a log",
        &Value::Null,
    );
    for _ in 0..3 {
        fediverse.mention("alice", "more", &Value::Null);
    }
    fediverse.mention("bob", "a --steps 9", &Value::Null);
    fediverse.mention("carol", "a --size 256x256", &Value::Null);
    fediverse.mention("dora", "a --style none-such@evil.example", &Value::Null);
    fediverse.mention("emil", "", &Value::Null);
    let replies: Vec<_> = (0..6).map(|_| fediverse.next()).collect();
    for (reply, expected) in replies.iter().zip([
        "@alice ordu-tiny, seed ",
        "@alice That was a lot in one hour",
        "@bob I do not know `--steps`",
        "@carol 256 pixels are too many here: 128 at most",
        "@dora The horde says no: ",
        "@emil Tell me what to draw",
    ]) {
        assert!(said(reply).starts_with(expected), "{expected}: {reply:?}");
        // Nobody else is called, whatever the message repeats.
        assert_eq!(said(reply).matches("@evil").count(), 0);
    }
    assert_eq!(fediverse.said(), 6);
    let heard = bot.end();
    assert!(heard.contains("answered a mention"), "{heard}");
    for secret in [TOKEN, "nobody may read"] {
        assert!(!heard.contains(secret), "{heard}");
    }
    assert_eq!(horde.terminate(), Some(0));
}

#[test]
fn a_wrong_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let fediverse = Fediverse::start(Streams::Unknown);
    let mut command = command(folder.path(), &fediverse);
    let output = command
        .env("ORDU_MASTODON_TOKEN", "wr0ng")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let heard = text(&output.stderr);
    assert!(
        heard.contains("The access token is invalid") && !heard.contains("wr0ng"),
        "{heard}"
    );
}
