//! The options about accounts and signing in, and what they amount to.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ordu_server::{CaptchaConfig, ClientSecret, IdentityConfig, Provider, Registration};
use url::Url;

/// Where the answers of a reCAPTCHA are checked.
const RECAPTCHA: &str = "https://www.google.com/recaptcha/api/siteverify";

/// Who somebody is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Identity {
    /// Let programs make accounts at `POST /api/v2/users` [default: as the command says].
    #[arg(long, env = "ORDU_JSON_REGISTRATION", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) json_registration: Option<bool>,

    /// How many accounts one address may make in a day without another site vouching for them; 0
    /// for any number.
    #[arg(
        long,
        env = "ORDU_ACCOUNTS_PER_ADDRESS",
        default_value_t = 5,
        value_name = "N"
    )]
    pub(crate) accounts_per_address: u32,

    /// How many wrong keys an address may present before it has to wait longer and longer; 0 for
    /// any number.
    #[arg(long, env = "ORDU_WRONG_KEYS", default_value_t = 10, value_name = "N")]
    pub(crate) wrong_keys: u32,

    /// For how many days the audit log is kept; 0 for good.
    #[arg(long, env = "ORDU_AUDIT_DAYS", default_value_t = 365, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub(crate) audit_days: u32,

    /// What the widget of a reCAPTCHA on `/register` is given.
    #[arg(
        long,
        env = "ORDU_CAPTCHA_SITE_KEY",
        value_name = "KEY",
        allow_hyphen_values = true,
        requires = "captcha_secret_key"
    )]
    pub(crate) captcha_site_key: Option<String>,

    /// What its answers are checked with.
    #[arg(
        long,
        env = "ORDU_CAPTCHA_SECRET_KEY",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true,
        requires = "captcha_site_key"
    )]
    pub(crate) captcha_secret_key: Option<ClientSecret>,

    /// Where they are checked, by the same rules.
    #[arg(
        long,
        env = "ORDU_CAPTCHA_VERIFY_URL",
        value_name = "URL",
        default_value = RECAPTCHA
    )]
    pub(crate) captcha_verify_url: Url,

    #[command(flatten)]
    pub(crate) sites: Sites,
}

/// The sites by which people sign in; one without an id is left out.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Sites {
    /// Who we are at Google.
    #[arg(long, env = "ORDU_GOOGLE_CLIENT_ID", value_name = "ID")]
    pub(crate) google_client_id: Option<String>,

    /// How we prove it.
    #[arg(
        long,
        env = "ORDU_GOOGLE_CLIENT_SECRET",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) google_client_secret: Option<ClientSecret>,

    /// Who we are at Discord.
    #[arg(long, env = "ORDU_DISCORD_CLIENT_ID", value_name = "ID")]
    pub(crate) discord_client_id: Option<String>,

    /// How we prove it.
    #[arg(
        long,
        env = "ORDU_DISCORD_CLIENT_SECRET",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) discord_client_secret: Option<ClientSecret>,

    /// Who we are at GitHub.
    #[arg(long, env = "ORDU_GITHUB_CLIENT_ID", value_name = "ID")]
    pub(crate) github_client_id: Option<String>,

    /// How we prove it.
    #[arg(
        long,
        env = "ORDU_GITHUB_CLIENT_SECRET",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) github_client_secret: Option<ClientSecret>,

    /// Any other site that speaks OpenID Connect: its issuer.
    #[arg(long, env = "ORDU_OPENID_ISSUER", value_name = "URL")]
    pub(crate) openid_issuer: Option<Url>,

    /// What people call it.
    #[arg(long, env = "ORDU_OPENID_TITLE", value_name = "NAME")]
    pub(crate) openid_title: Option<String>,

    /// Who we are there.
    #[arg(long, env = "ORDU_OPENID_CLIENT_ID", value_name = "ID")]
    pub(crate) openid_client_id: Option<String>,

    /// How we prove it.
    #[arg(
        long,
        env = "ORDU_OPENID_CLIENT_SECRET",
        value_name = "SECRET",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub(crate) openid_client_secret: Option<ClientSecret>,
}

impl Default for Identity {
    /// The same as without any option; `the_default_is_what_no_option_gives` holds it.
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the address is constant")]
        let captcha_verify_url = RECAPTCHA.parse().expect("invariant: it is a URL");
        Self {
            json_registration: None,
            accounts_per_address: 5,
            wrong_keys: 10,
            audit_days: 365,
            captcha_site_key: None,
            captcha_secret_key: None,
            captcha_verify_url,
            sites: Sites::default(),
        }
    }
}

/// The settings from their options; `by_default` holds where nobody says whether programs may make
/// accounts.
pub(crate) fn config(options: &Identity, by_default: Registration) -> Result<IdentityConfig> {
    let json_registration = match options.json_registration {
        Some(true) => Registration::Open,
        Some(false) => Registration::Closed,
        None => by_default,
    };
    let captcha = match (&options.captcha_site_key, &options.captcha_secret_key) {
        (Some(site_key), Some(secret_key)) => Some(CaptchaConfig {
            site_key: site_key.clone(),
            secret_key: secret_key.clone(),
            verify_url: options.captcha_verify_url.clone(),
        }),
        (None, None) => None,
        _ => bail!("`--captcha-site-key` and `--captcha-secret-key` belong together"),
    };
    Ok(IdentityConfig {
        json_registration,
        accounts_per_address: options.accounts_per_address,
        captcha,
        providers: providers(&options.sites)?,
    })
}

fn providers(sites: &Sites) -> Result<Vec<Provider>> {
    let mut providers = Vec::new();
    let pair = |name: &str, id: &Option<String>, secret: &Option<ClientSecret>| {
        let Some(id) = id.clone() else {
            return Ok(None);
        };
        let secret = secret.clone().with_context(|| {
            format!("`--{name}-client-id` needs `--{name}-client-secret` beside it")
        })?;
        anyhow::Ok(Some((id, secret)))
    };
    if let Some((id, secret)) = pair(
        "google",
        &sites.google_client_id,
        &sites.google_client_secret,
    )? {
        providers.push(Provider::google(id, secret)?);
    }
    let discord = pair(
        "discord",
        &sites.discord_client_id,
        &sites.discord_client_secret,
    )?;
    if let Some((id, secret)) = discord {
        providers.push(Provider::discord(id, secret)?);
    }
    if let Some((id, secret)) = pair(
        "github",
        &sites.github_client_id,
        &sites.github_client_secret,
    )? {
        providers.push(Provider::github(id, secret)?);
    }
    if let Some((id, secret)) = pair(
        "openid",
        &sites.openid_client_id,
        &sites.openid_client_secret,
    )? {
        let issuer = sites
            .openid_issuer
            .clone()
            .context("`--openid-client-id` needs `--openid-issuer` beside it")?;
        let host = issuer.host_str().unwrap_or("OpenID").to_owned();
        let title = sites.openid_title.clone().unwrap_or(host);
        providers.push(Provider::openid(issuer, title, id, secret));
    }
    Ok(providers)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        identity: Identity,
    }

    fn parse(arguments: &[&str]) -> Identity {
        let all = ["ordu"].iter().chain(arguments);
        Options::try_parse_from(all).unwrap().identity
    }

    #[test]
    fn the_default_is_what_no_option_gives() {
        assert_eq!(
            format!("{:?}", parse(&[])),
            format!("{:?}", Identity::default())
        );
    }

    #[test]
    fn a_site_without_an_id_is_left_out_and_half_of_one_is_told() {
        let names = |arguments: &[&str]| {
            let made = config(&parse(arguments), Registration::Closed);
            made.map(|made| {
                made.providers
                    .iter()
                    .map(|site| site.name)
                    .collect::<Vec<_>>()
            })
        };
        assert!(names(&[]).unwrap().is_empty());
        let github = ["--github-client-id", "a", "--github-client-secret", "b"];
        assert_eq!(names(&github).unwrap(), ["github"]);
        assert!(names(&["--google-client-id", "a"]).is_err());
        let openid = ["--openid-client-id", "a", "--openid-client-secret", "b"];
        assert!(names(&openid).is_err());
        let whole = [&openid[..], &["--openid-issuer", "https://id.example"]].concat();
        assert_eq!(names(&whole).unwrap(), ["openid"]);
    }

    #[test]
    fn what_the_command_says_about_programs_can_be_said_otherwise() {
        let made = |arguments: &[&str], by_default| {
            let made = config(&parse(arguments), by_default).unwrap();
            made.json_registration
        };
        assert_eq!(made(&[], Registration::Open), Registration::Open);
        assert_eq!(
            made(&["--json-registration", "false"], Registration::Open),
            Registration::Closed
        );
        assert_eq!(
            made(&["--json-registration"], Registration::Closed),
            Registration::Open
        );
    }
}
