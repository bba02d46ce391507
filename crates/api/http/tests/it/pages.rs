//! A person with a browser.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::world::{Answer, World};

/// A browser: it keeps cookies and fills in what a form already holds.
struct Browser<'a> {
    world: &'a World,
    cookies: Vec<(String, String)>,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            cookies: Vec::new(),
        }
    }

    async fn go(&mut self, request: axum::http::request::Builder, body: String) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let request = request.header(header::COOKIE, cookies.join("; "));
        let answer = self
            .world
            .send(request.body(Body::from(body)).unwrap())
            .await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
            assert!(cookie.contains("; Path=/oversight;"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        let answer = self.go(Request::get(path), String::new()).await;
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'; style-src 'nonce-"),
            "{policy}"
        );
        assert!(!answer.body.contains("<script"), "no script on any page");
        answer
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace(' ', "+")))
            .collect();
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.go(request, pairs.join("&")).await
    }

    async fn log_in(&mut self) {
        self.log_in_by(&self.world.owner).await;
    }

    async fn log_in_by(&mut self, credential: &str) {
        let form = self.get("/oversight").await;
        assert_eq!(form.status, StatusCode::UNAUTHORIZED);
        let fields = [
            ("form_token", hidden(&form, "form_token")),
            ("next", hidden(&form, "next")),
            ("credential", credential.to_owned()),
        ];
        let fields = fields
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let answer = self.post("/oversight/login", &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert_eq!(answer.header(header::LOCATION), "/oversight");
    }
}

/// What a hidden field of the page holds.
fn hidden(answer: &Answer, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let rest = answer.body.split(&start).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no {name} in {}", answer.body));
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_logs_in_reads_and_approves() {
    let world = World::new().await;
    let id = world
        .held(json!({ "version": "1.0 <b>\u{202e}evil" }))
        .await;
    let mut browser = Browser::new(&world);
    browser.log_in().await;
    assert!(
        browser
            .cookies
            .iter()
            .all(|(_, value)| !value.contains(&world.owner)),
        "the credential is not in a cookie"
    );

    let list = browser.get("/oversight").await;
    let page = format!("/oversight/requests/{id}");
    assert!(list.body.contains(&page), "{}", list.body);
    let shown = browser.get(&page).await;
    for text in [
        "release.publish",
        "alice → bot",
        "0.25 USD",
        &hidden(&shown, "digest"),
        "1.0 &lt;b&gt;\\u{202e}evil",
    ] {
        assert!(shown.body.contains(text), "{text} in {}", shown.body);
    }

    let token = hidden(&shown, "form_token");
    let digest = hidden(&shown, "digest");
    let key = hidden(&shown, "key");
    let fields = [
        ("form_token", token.as_str()),
        ("digest", &digest),
        ("key", &key),
        ("reason", "looks good"),
    ];
    // A double tap is one approval.
    for _ in 0..2 {
        let answer = browser.post(&format!("{page}/approve"), &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert_eq!(answer.header(header::LOCATION), page);
    }
    let decided = browser.get(&page).await;
    assert!(
        decided.body.contains("Approved by alice"),
        "{}",
        decided.body
    );
    assert!(decided.body.contains("looks good"));
    assert!(!decided.body.contains("grt_"), "the grant is the agent's");
    assert!(!decided.body.contains("/approve\""), "no form any more");
    let agent = world.get(&format!("/v1{page}"), &world.agent).await.json();
    assert_eq!(agent["state"], "approved");

    // Deciding otherwise afterwards changes nothing; the page says how it stands.
    let mut other = fields;
    other[2].1 = "another-key";
    let answer = browser.post(&format!("{page}/deny"), &other).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let agent = world.get(&format!("/v1{page}"), &world.agent).await.json();
    assert_eq!(agent["state"], "approved");
}

#[tokio::test]
async fn an_approver_sees_the_type_of_the_resource_and_the_context() {
    let world = World::new().await;
    world.publish_tickets().await;
    let close = json!({
        "action": "ticket.close",
        "resource": { "type": "Ticket", "id": "7" },
        "context": { "country": "DE\u{202e}<b>" },
    });
    let held = world.post("/v1/actions", &world.agent, close).await.json();
    let id = held["oversight"]["request_id"].as_str().unwrap();
    let page = format!("/oversight/requests/{id}");
    let mut browser = Browser::new(&world);
    browser.log_in().await;
    let list = browser.get("/oversight").await;
    assert!(list.body.contains("Creto::Ticket 7"), "{}", list.body);
    let shown = browser.get(&page).await;
    for text in [
        "<dd>Creto::Ticket 7</dd>",
        "In exactly this context",
        "&quot;country&quot;: &quot;DE\\u{202e}&lt;b&gt;&quot;",
    ] {
        assert!(shown.body.contains(text), "{text} in {}", shown.body);
    }

    // A resource without a type of its own, in no context, shows neither.
    let id = world.held(json!({})).await;
    let shown = browser.get(&format!("/oversight/requests/{id}")).await;
    assert!(shown.body.contains("<dd>repo:creto</dd>"), "{}", shown.body);
    assert!(!shown.body.contains("In exactly this context"));
}

#[tokio::test]
async fn a_forged_form_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let id = world.held(json!({})).await;
    let page = format!("/oversight/requests/{id}");
    let mut browser = Browser::new(&world);
    browser.log_in().await;
    let shown = browser.get(&page).await;
    let (token, digest) = (hidden(&shown, "form_token"), hidden(&shown, "digest"));
    let mut stranger = Browser::new(&world);
    stranger.log_in().await;
    let foreign = hidden(&stranger.get(&page).await, "form_token");
    for token in ["", "guess", &foreign] {
        let fields = [("form_token", token), ("digest", &digest), ("key", "k")];
        for verdict in ["approve", "deny"] {
            let answer = browser.post(&format!("{page}/{verdict}"), &fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token}");
            assert!(answer.body.contains("form_refused"), "{}", answer.body);
        }
        let answer = browser
            .post("/oversight/logout", &[("form_token", token)])
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    // Another action than the one that was shown.
    let fields = [
        ("form_token", token.as_str()),
        ("digest", "00"),
        ("key", "k"),
    ];
    let answer = browser.post(&format!("{page}/approve"), &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    // A bearer token reads pages and gets no forms; without a session none count.
    let read = world.get(&page, &world.owner).await;
    assert_eq!(read.status, StatusCode::OK);
    assert!(!read.body.contains("<form"), "{}", read.body);
    let request = Request::post(format!("{page}/approve"))
        .header(header::AUTHORIZATION, format!("Bearer {}", world.owner))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let body = format!("form_token={token}&digest={digest}&key=k");
    let answer = world.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);

    let agent = world.get(&format!("/v1{page}"), &world.agent).await.json();
    assert_eq!(agent["state"], "pending");
}

#[tokio::test]
async fn login_refuses_strangers_agents_and_forgers() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let form = browser.get("/oversight/requests/ovr_x").await;
    assert_eq!(form.status, StatusCode::UNAUTHORIZED);
    assert_eq!(hidden(&form, "next"), "/oversight/requests/ovr_x");
    let token = hidden(&form, "form_token");

    let wrong = [("form_token", token.as_str()), ("credential", "wrong")];
    let answer = browser.post("/oversight/login", &wrong).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let token = hidden(&answer, "form_token");
    let agent = [("form_token", token.as_str()), ("credential", &world.agent)];
    let answer = browser.post("/oversight/login", &agent).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("page_for_people"));
    // Another site posts the form: its cookie is missing, or is not the form's.
    let forged = [("form_token", token.as_str()), ("credential", &world.owner)];
    for cookies in [vec![], vec![("creto_login".to_owned(), "other".to_owned())]] {
        let mut victim = Browser::new(&world);
        victim.cookies = cookies;
        let answer = victim.post("/oversight/login", &forged).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.headers.get(header::SET_COOKIE).is_none());
    }
    // A kind of credentials that this server does not have.
    let other = [
        ("form_token", token.as_str()),
        ("kind", "passkey"),
        ("credential", &world.owner),
    ];
    let answer = browser.post("/oversight/login", &other).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.body.contains("token"), "{}", answer.body);
    // An address elsewhere is not followed after the login.
    for next in [
        "https://evil.example/",
        "//evil.example",
        "/oversight//evil",
        "/v1/self",
    ] {
        let fields = [
            ("form_token", token.as_str()),
            ("credential", &world.owner),
            ("next", next),
        ];
        browser.cookies = vec![("creto_login".to_owned(), token.clone())];
        let answer = browser.post("/oversight/login", &fields).await;
        assert_eq!(answer.header(header::LOCATION), "/oversight", "{next}");
    }
    // Pages are for people, by token as well.
    let answer = world.get("/oversight", &world.agent).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_session_ends_by_logout_by_time_and_with_its_credential() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.log_in().await;
    let cookies = browser.cookies.clone();
    let token = hidden(&browser.get("/oversight").await, "form_token");
    let answer = browser
        .post("/oversight/logout", &[("form_token", &token)])
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    browser.cookies = cookies;
    assert_eq!(
        browser.get("/oversight").await.status,
        StatusCode::UNAUTHORIZED
    );

    let mut idle = Browser::new(&world);
    idle.log_in().await;
    world.clock.advance(std::time::Duration::from_secs(3_599));
    assert_eq!(idle.get("/oversight").await.status, StatusCode::OK);
    world.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(
        idle.get("/oversight").await.status,
        StatusCode::UNAUTHORIZED
    );

    let mut long = Browser::new(&world);
    long.log_in().await;
    for _ in 0..17 {
        world.clock.advance(std::time::Duration::from_secs(1_800));
        let _ = long.get("/oversight").await;
    }
    assert_eq!(
        long.get("/oversight").await.status,
        StatusCode::UNAUTHORIZED
    );
}

/// What ends the credential that a session began with ends the session.
#[tokio::test]
async fn a_session_goes_on_as_long_as_its_credential_holds() {
    let world = World::new().await;
    let carol = json!({ "name": "carol", "role": "approver" });
    let added = world.post("/v1/humans", &world.owner, carol).await.json();
    let token = added["token"].as_str().unwrap().to_owned();
    let mut carol = Browser::new(&world);
    carol.log_in_by(&token).await;
    for ends in ["principals/carol/suspend", "humans/carol/credential"] {
        assert_eq!(carol.get("/oversight").await.status, StatusCode::OK);
        let body = match ends.ends_with("suspend") {
            true => json!({ "reason": "on leave" }),
            false => json!({}),
        };
        let path = format!("/v1/{ends}");
        let answer = world.post(&path, &world.owner, body).await;
        assert!(answer.status.is_success(), "{ends}: {}", answer.body);
        let cookies = carol.cookies.clone();
        let answer = carol.get("/oversight").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{ends}");
        if ends.ends_with("suspend") {
            let path = "/v1/principals/carol/resume";
            let resumed = world.post(path, &world.owner, json!({ "reason": "is back" }));
            assert!(resumed.await.status.is_success());
            // It ended, and does not come back.
            carol.cookies = cookies;
            let answer = carol.get("/oversight").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            carol.log_in_by(&token).await;
        }
    }
    let form = carol.get("/oversight").await;
    let (form_token, next) = (hidden(&form, "form_token"), hidden(&form, "next"));
    let fields = [
        ("form_token", form_token.as_str()),
        ("next", &next),
        ("credential", &token),
    ];
    let answer = carol.post("/oversight/login", &fields).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
