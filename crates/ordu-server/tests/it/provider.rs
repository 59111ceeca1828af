//! A real OpenID provider on a free port: `oidc-provider` from npm, in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ordu_server::Provider;

/// The repository's root.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A running provider; it ends with this.
pub(crate) struct OpenIdProvider {
    process: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl OpenIdProvider {
    /// Starts one; `None` where there is no Node, which is told aloud.
    pub(crate) fn start() -> Option<Self> {
        let installed = Command::new(Path::new(ROOT).join(".ci/oidc.sh"))
            .output()
            .unwrap();
        if installed.status.code() == Some(3) {
            assert!(
                std::env::var("ORDU_TEST_NO_SKIP").is_err(),
                "node and npm are missing"
            );
            eprintln!("SKIPPED: node and npm are missing for the OpenID provider");
            return None;
        }
        let told = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "{told}");
        let folder = String::from_utf8(installed.stdout).unwrap();
        let mut process = Command::new("node")
            .arg(Path::new(ROOT).join("tests/oidc/provider.mjs"))
            .arg(folder.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let line = read_until(&mut lines, "listening on ");
        Some(Self {
            process,
            lines,
            url: line,
        })
    }

    /// As our configuration names it.
    pub(crate) fn configured(&self) -> Provider {
        Provider::openid(
            self.url.parse().unwrap(),
            "The Tests".to_owned(),
            "ordu".to_owned(),
            "the secret of the tests".to_owned().into(),
        )
    }

    /// Lets it send people back to the horde there.
    pub(crate) fn lead_back_to(&mut self, horde: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{horde}/openid/openid/authorized").unwrap();
        read_until(&mut self.lines, "ready");
    }
}

/// The rest of the first line that begins like this; others are warnings.
fn read_until(lines: &mut BufReader<ChildStdout>, start: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the provider ended");
        if let Some(rest) = line.strip_prefix(start) {
            return rest.trim().to_owned();
        }
    }
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
