//! As much of a browser as the pages need: cookies, forms, redirects one by one.

use std::collections::BTreeMap;

use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::{Client, Method, Url};

use crate::support::TestHorde;

/// A browser with its cookies.
pub(crate) struct Browser {
    client: Client,
    cookies: BTreeMap<(String, String), String>,
}

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) url: Url,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Browser {
    pub(crate) fn new() -> Self {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            client,
            cookies: BTreeMap::new(),
        }
    }

    pub(crate) async fn get(&mut self, url: &str) -> Page {
        self.send(Method::GET, url, &[], &[]).await
    }

    pub(crate) async fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Page {
        self.send(Method::POST, url, form, &[]).await
    }

    /// Loads a page for its form, fills it in and sends it.
    pub(crate) async fn submit(
        &mut self,
        horde: &TestHorde,
        (page, action): (&str, &str),
        fields: &[(&str, &str)],
    ) -> Page {
        let form = self.get(&format!("{}{page}", horde.url)).await;
        let token = form.hidden("form_token");
        let fields = [fields, &[("form_token", token.as_str())]].concat();
        self.post(&format!("{}{action}", horde.url), &fields).await
    }

    /// One exchange; redirects are not followed.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let url: Url = url.parse().unwrap();
        let host = url.authority().to_owned();
        let mine = self.cookies.iter().filter(|((at, _), _)| *at == host);
        let cookies: Vec<String> = mine
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut request = self.client.request(method.clone(), url.clone());
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == Method::POST {
            request = request.form(form);
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            self.keep(&host, cookie.to_str().unwrap());
        }
        Page {
            status: response.status().as_u16(),
            url,
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    fn keep(&mut self, host: &str, cookie: &str) {
        let pair = cookie.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap();
        let key = (host.to_owned(), name.to_owned());
        if value.is_empty() {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.to_owned());
        }
    }

    /// Goes where a page sends it, again and again, as long as `onwards` says so.
    pub(crate) async fn follow(&mut self, mut page: Page, onwards: impl Fn(&Url) -> bool) -> Page {
        for _ in 0..10 {
            match page.location() {
                Some(next) if onwards(&next) => page = self.get(next.as_str()).await,
                _ => return page,
            }
        }
        panic!("too many redirects: {page:?}");
    }

    /// The value of a cookie of this horde.
    pub(crate) fn cookie(&self, horde: &TestHorde, name: &str) -> Option<&String> {
        let url: Url = horde.url.parse().unwrap();
        let key = (url.authority().to_owned(), name.to_owned());
        self.cookies.get(&key)
    }

    /// Puts another value in the place of a cookie.
    pub(crate) fn set_cookie(&mut self, horde: &TestHorde, name: &str, value: &str) {
        let url: Url = horde.url.parse().unwrap();
        let key = (url.authority().to_owned(), name.to_owned());
        self.cookies.insert(key, value.to_owned());
    }
}

impl Page {
    /// Where it sends the browser.
    pub(crate) fn location(&self) -> Option<Url> {
        let to = self.headers.get(LOCATION)?.to_str().unwrap();
        Some(self.url.join(to).unwrap())
    }

    /// The value of a hidden field.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        self.between(&start, "\"")
            .unwrap_or_else(|| panic!("no field `{name}` in {self:?}"))
    }

    /// The key that is shown, if one is.
    pub(crate) fn key(&self) -> Option<String> {
        self.between("<output class=\"key\">", "</output>")
    }

    /// What stands between two texts, where both first occur.
    pub(crate) fn between(&self, start: &str, end: &str) -> Option<String> {
        let (_, rest) = self.text.split_once(start)?;
        rest.split_once(end).map(|(found, _)| found.to_owned())
    }
}
