//! Just enough of a browser to decide on the web page as a person does: follow the
//! forms as the pages give them, keep the cookies, invent nothing.

use std::collections::BTreeMap;
use std::path::Path;

use creto_client::{ServerAddress, encode, read_credential};
use ureq::http::Response;
use ureq::http::header::{HeaderMap, LOCATION, SET_COOKIE};
use ureq::{Agent, Body};

use super::documents::ensure;
use super::error::DemoError;

/// A browser with its cookies.
pub(crate) struct Browser {
    agent: Agent,
    server: ServerAddress,
    cookies: BTreeMap<String, String>,
}

/// What a page came back with.
struct Page {
    status: u16,
    body: String,
    location: Option<String>,
}

impl Browser {
    pub(crate) fn new(server: ServerAddress) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self {
            agent: config.new_agent(),
            server,
            cookies: BTreeMap::new(),
        }
    }

    /// Opens the request's page, logs in where it asks for that, and approves.
    pub(crate) fn approve(mut self, credential: &Path, request: &str) -> Result<(), DemoError> {
        let path = format!("/oversight/requests/{}", encode(request));
        let credential = read_credential(credential)?;
        let asked = self.get(&path)?;
        let login = find(&asked.body, "asks for a credential", |form| {
            form.password.is_some()
        })?;
        let mut fields = login.fields.clone();
        if let Some(name) = &login.password {
            fields.push((name.clone(), credential.expose().to_owned()));
        }
        let entered = self.post(&login.action, &fields)?;
        ensure(entered.status == 303 && !self.cookies.is_empty(), || {
            format!("logging in on the page came to status {}", entered.status)
        })?;
        let next = entered.location.unwrap_or_else(|| path.clone());

        let shown = self.get(&next)?;
        ensure(
            shown.status == 200 && shown.body.contains("release.publish"),
            || format!("after logging in, {next} does not show the request"),
        )?;
        let approves = |target: &&String| target.ends_with("/approve");
        let form = find(&shown.body, "approves", |form| {
            form.targets().any(|to| approves(&to))
        })?;
        let target = form.targets().find(approves).cloned().unwrap_or_default();
        // A page of another site does not know the form's token: nothing happens.
        let forged: Vec<_> = form
            .fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "form_token" => (name.clone(), value.chars().rev().collect()),
                _ => (name.clone(), value.clone()),
            })
            .collect();
        let refused = self.post(&target, &forged)?;
        ensure(refused.status >= 400, || {
            format!(
                "a form with a forged token came to status {}",
                refused.status
            )
        })?;
        let decided = self.post(&target, &form.fields)?;
        ensure(decided.status < 400, || {
            format!("approving on the page came to status {}", decided.status)
        })
    }

    fn get(&mut self, path: &str) -> Result<Page, DemoError> {
        let request = self.agent.get(self.url(path));
        let request = request.header("Cookie", self.cookie_header());
        self.page(request.call())
    }

    fn post(&mut self, path: &str, fields: &[(String, String)]) -> Result<Page, DemoError> {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let request = self
            .agent
            .post(self.url(path))
            .header("Cookie", self.cookie_header())
            .header("Origin", self.server.to_string())
            .header("Content-Type", "application/x-www-form-urlencoded");
        self.page(request.send(body.join("&")))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn cookie_header(&self) -> String {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    fn page(&mut self, result: Result<Response<Body>, ureq::Error>) -> Result<Page, DemoError> {
        let failed = |error: ureq::Error| DemoError::Fact(format!("the page: {error}"));
        let mut response = result.map_err(failed)?;
        self.keep_cookies(response.headers());
        let location = response.headers().get(LOCATION);
        Ok(Page {
            status: response.status().as_u16(),
            location: location.and_then(|value| value.to_str().ok().map(str::to_owned)),
            body: response.body_mut().read_to_string().map_err(failed)?,
        })
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let pair = header.to_str().ok().and_then(|text| text.split(';').next());
            if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
                self.cookies
                    .insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

/// A form of a page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    action: String,
    /// What it sends unasked: hidden fields and prefilled ones.
    fields: Vec<(String, String)>,
    /// Where its buttons lead when not to `action`.
    button_actions: Vec<String>,
    /// The field that a secret is typed into.
    password: Option<String>,
}

impl Form {
    fn targets(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.action).chain(&self.button_actions)
    }
}

fn find(page: &str, what: &str, wanted: impl Fn(&Form) -> bool) -> Result<Form, DemoError> {
    forms(page)
        .into_iter()
        .find(wanted)
        .ok_or_else(|| DemoError::Fact(format!("no form on the page {what}: {page}")))
}

/// The forms of a page, read from its tags.
fn forms(page: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut open = false;
    for tag in page.split('<').filter_map(|rest| rest.split('>').next()) {
        let name = tag.split_whitespace().next().unwrap_or_default();
        let attribute = |key: &str| attribute(tag, key);
        match name {
            "form" => {
                open = true;
                forms.push(Form {
                    action: attribute("action").unwrap_or_default(),
                    ..Form::default()
                });
            }
            "/form" => open = false,
            "button" if open => {
                if let Some((form, target)) = forms.last_mut().zip(attribute("formaction")) {
                    form.button_actions.push(target);
                }
            }
            "input" if open => {
                let Some((form, field)) = forms.last_mut().zip(attribute("name")) else {
                    continue;
                };
                match attribute("type").as_deref() {
                    Some("password") => form.password = Some(field),
                    _ => form
                        .fields
                        .push((field, attribute("value").unwrap_or_default())),
                }
            }
            _ => {}
        }
    }
    forms
}

/// The value of a double-quoted attribute, its references resolved.
fn attribute(tag: &str, key: &str) -> Option<String> {
    let opening = format!(" {key}=\"");
    let (_, rest) = tag.split_once(&opening)?;
    let (value, _) = rest.split_once('"')?;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_they_stand() {
        let page = "<p>a</p><form method=\"post\" action=\"/x?a=1&amp;b\">\
            <input type=\"hidden\" name=\"csrf\" value=\"t&quot;\">\
            <input name=\"credential\" type=\"password\">\
            <button type=\"submit\" formaction=\"/x/approve\">Go</button></form>\
            <input name=\"stray\"><form action=\"/y\"></form>";
        let found = forms(page);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].action, "/x?a=1&b");
        assert_eq!(found[0].fields, [pair("csrf", "t\"")]);
        assert_eq!(found[0].password.as_deref(), Some("credential"));
        assert!(found[0].targets().eq(["/x?a=1&b", "/x/approve"]));
        assert_eq!(
            found[1],
            Form {
                action: "/y".to_owned(),
                ..Form::default()
            }
        );
    }
}
