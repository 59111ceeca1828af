//! Terms, privacy, sponsors: the operator's documents, or the built-in ones.
//!
//! # Source
//! `community.md` § 11.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ordu_core::subscription::{Subscribers, Thanked};
use pulldown_cmark::{Options, Parser, html::push_html};
use url::Url;

use crate::app::App;
use crate::error::ApiResult;
use crate::watched;

/// A document of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Document {
    Terms,
    Privacy,
    Sponsors,
}

impl Document {
    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Terms => "Terms",
            Self::Privacy => "Privacy",
            Self::Sponsors => "Sponsors",
        }
    }
}

/// Where the operator's text of a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageSource {
    /// In a file: HTML if it is called so, Markdown otherwise. Read whenever somebody asks.
    File(PathBuf),
    /// This is it.
    Text(String),
}

impl FromStr for PageSource {
    type Err = Infallible;

    /// What has markup or lines is the text itself, everything else the name of a file.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_text = text.contains(['<', '\n']);
        Ok(if is_text {
            Self::Text(text.to_owned())
        } else {
            Self::File(PathBuf::from(text))
        })
    }
}

/// A document as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    form: Form,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Markdown,
}

impl Written {
    fn markdown(text: String) -> Self {
        let form = Form::Markdown;
        Self { form, text }
    }

    /// For browsers. The text is the operator's: its markup stays.
    pub(crate) fn into_html(self) -> String {
        match self.form {
            Form::Html => self.text,
            Form::Markdown => render(&self.text),
        }
    }

    /// For programs. HTML is Markdown, too.
    pub(crate) fn into_markdown(self) -> String {
        self.text
    }
}

fn render(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut html = String::new();
    push_html(&mut html, Parser::new_ext(markdown, options));
    html
}

impl App {
    /// A document, with the site's name, address and contact filled in.
    pub(crate) async fn document(&self, which: Document) -> ApiResult<Written> {
        let site = &self.config.site;
        let (source, built_in) = match which {
            Document::Terms => (&site.terms, TERMS),
            Document::Privacy => (&site.privacy, PRIVACY),
            Document::Sponsors => return Ok(sponsors(&self.subscriptions.all())),
        };
        let written = match source {
            None => Written::markdown(built_in.to_owned()),
            Some(PageSource::Text(text)) => of_text(text.clone()),
            Some(PageSource::File(path)) => match watched::read(path).await {
                Ok(text) => of_file(path, text),
                Err(error) => {
                    // Other terms than the operator's must not be shown in their place.
                    tracing::error!(%error, document = which.name(), "a document cannot be read");
                    return Err(crate::error::ApiError::Unavailable(60));
                }
            },
        };
        Ok(self.fill_in(written))
    }

    fn fill_in(&self, mut written: Written) -> Written {
        let site = &self.config.site;
        let contact = site.contact.as_deref().unwrap_or("ask the operators");
        let values = [
            ("title", self.config.title.as_str()),
            ("url", self.url.as_str()),
            ("contact", contact),
        ];
        for (name, value) in values {
            let value = match written.form {
                Form::Html => escape_html(value),
                Form::Markdown => escape_markdown(value),
            };
            let place = format!("{{{{ {name} }}}}");
            written.text = written.text.replace(&place, &value);
        }
        written
    }
}

const TERMS: &str = include_str!("../../../web/documents/terms.md");
const PRIVACY: &str = include_str!("../../../web/documents/privacy.md");

fn of_text(text: String) -> Written {
    let form = if text.trim_start().starts_with('<') {
        Form::Html
    } else {
        Form::Markdown
    };
    Written { form, text }
}

fn of_file(path: &Path, text: String) -> Written {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let form = match ending {
        Some("html" | "htm") => Form::Html,
        _ => Form::Markdown,
    };
    Written { form, text }
}

/// Those who give most are named with a link, the others by name.
fn sponsors(subscribers: &Subscribers) -> Written {
    let mut text = "# Sponsors\n\n".to_owned();
    let sponsors: Vec<String> = subscribers.sponsors().map(sponsor).collect();
    let patrons: Vec<String> = subscribers.patrons().map(patron).collect();
    if sponsors.is_empty() && patrons.is_empty() {
        text.push_str("Nobody supports this horde with money so far.\n");
    }
    text.push_str(&sponsors.concat());
    if !patrons.is_empty() {
        text.push_str("\n## Patrons\n\n");
        text.push_str(&patrons.concat());
    }
    Written::markdown(text)
}

fn sponsor(sponsor: &Thanked) -> String {
    let name = escape_markdown(&sponsor.name);
    let url = sponsor.url.as_deref().and_then(|url| Url::parse(url).ok());
    match url.filter(|url| matches!(url.scheme(), "http" | "https")) {
        Some(url) => format!("- [{name}](<{url}>)\n"),
        None => format!("- {name}\n"),
    }
}

fn patron(patron: &Thanked) -> String {
    format!("- {}\n", escape_markdown(&patron.name))
}

/// A text on one line that means nothing but itself.
fn escape_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            // These are plain wherever a value is filled in, and make addresses readable.
            ':' | '/' | '.' | '@' | '-' | ',' => out.push(c),
            c if c.is_ascii_punctuation() => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn escape_html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_or_the_text_itself() {
        let read = |text: &str| text.parse::<PageSource>().unwrap();
        assert_eq!(read("terms.md"), PageSource::File("terms.md".into()));
        assert!(matches!(read("<p>hi"), PageSource::Text(_)));
        assert!(matches!(read("# Hi\nyou"), PageSource::Text(_)));
    }

    #[test]
    fn html_is_told_from_markdown() {
        let html = |written: Written| written.into_html();
        assert_eq!(html(of_text(" <p>x</p>".to_owned())), " <p>x</p>");
        assert_eq!(html(of_text("*x*\n".to_owned())), "<p><em>x</em></p>\n");
        assert_eq!(html(of_file(Path::new("a.html"), "*x*".to_owned())), "*x*");
        assert_eq!(
            html(of_file(Path::new("a.md"), "*x*".to_owned())),
            "<p><em>x</em></p>\n"
        );
    }

    #[test]
    fn names_of_strangers_are_no_markup() {
        let name = "<script>*a*</script> [x](http://y) `z`\n# b & c";
        let html = render(&format!("- {}\n", escape_markdown(name)));
        assert!(
            !html.contains("<script>") && !html.contains("<em>"),
            "{html}"
        );
        assert!(!html.contains("<a ") && !html.contains("<h1>"), "{html}");
        assert!(html.contains("*a*") && html.contains("&amp; c"), "{html}");
        let link = |url: &str| {
            sponsor(&Thanked {
                name: "A".to_owned(),
                pledge: 100,
                url: Some(url.to_owned()),
            })
        };
        assert_eq!(link("https://a.b/<x>"), "- [A](<https://a.b/%3Cx%3E>)\n");
        assert_eq!(link("javascript:alert(1)"), "- A\n");
    }
}
