//! The contents of the pages.

use creto_governor::OversightAnswer;
use creto_types::{PrincipalName, Timestamp};
use maud::{Markup, html};

use super::{HOME, Visitor};
use crate::problem::Problem;

const STATES: [&str; 6] = ["pending", "approved", "used", "denied", "expired", "all"];

pub(super) fn list(
    visitor: &Visitor,
    items: &[OversightAnswer],
    shown: &str,
    next: Option<&str>,
    now: Timestamp,
) -> Markup {
    html! {
        (head(visitor, "Requests"))
        nav aria-label="State" {
            @for state in STATES {
                a href={ (HOME) "?state=" (state) } aria-current=[(state == shown).then_some("page")] {
                    (state)
                }
            }
        }
        @if items.is_empty() {
            p.soft {
                @if shown == "pending" { "Nothing waits for you." } @else { "There is none." }
            }
        }
        ul.requests {
            @for item in items {
                li {
                    a href={ (HOME) "/requests/" (item.id) } {
                        strong { (plain(&item.action)) } " on " (on(item))
                        br;
                        span.soft {
                            (item.agent)
                            @if let Some(cost) = item.cost { " · " (cost) }
                            " · " (state(item, now))
                        }
                    }
                }
            }
        }
        @if let Some(next) = next {
            p { a href={ (HOME) "?state=" (shown) "&after=" (next) } { "More" } }
        }
    }
}

pub(super) fn request(
    visitor: &Visitor,
    request: &OversightAnswer,
    key: &str,
    now: Timestamp,
) -> Markup {
    html! {
        (head(visitor, &plain(&request.action)))
        p { (state(request, now)) }
        dl {
            dt { "Who" } dd { (request.agent) }
            dt { "Action" } dd { (plain(&request.action)) }
            dt { "On" } dd { (on(request)) }
            dt { "Units" } dd { (request.units) }
            @if let Some(cost) = request.cost { dt { "Costs" } dd { (cost) } }
            @if let Some(spent) = request.spent { dt { "Spent so far" } dd { (spent) } }
        }
        @if !request.context.is_empty() {
            h2 { "In exactly this context" }
            pre { (arguments(&serde_json::Value::Object(request.context.clone()))) }
        }
        h2 { "Exact arguments" }
        pre { (arguments(&request.args)) }
        h2 { "On whose behalf" }
        p { (chain(&request.chain)) }
        @if let (Some(session), "pending") = (&visitor.session, request.state.as_str()) {
            (decision(request, &session.form_token, key))
        } @else if request.state == "pending" {
            p.notice { "Log in with a browser, or use the API, to decide." }
        }
        (decided(request))
        h2 { "Details" }
        dl {
            dt { "Asked" } dd { (instant(request.created_at)) }
            dt { "Expires" } dd { (instant(request.expires_at)) }
            dt { "Policy" } dd { (plain(&request.policy_id)) }
            @for (policy, digest) in &request.policy_digests {
                dt { "What " (plain(policy)) " says" } dd { code.digest { (digest) } }
            }
            dt { "Request" } dd { code.digest { (request.id) } }
            dt { "Action id" } dd { code.digest { (request.action_id) } }
            dt { "Digest" } dd { code.digest { (request.digest) } }
            @if let Some(leaf) = request.leaf { dt { "Leaf" } dd { (leaf) } }
        }
        p { a href=(HOME) { "All requests" } }
    }
}

/// The resource, with its type when that is one of the users' own.
fn on(request: &OversightAnswer) -> String {
    let resource = plain(&request.resource);
    match &request.resource_type {
        Some(kind) => format!("{} {resource}", plain(kind)),
        None => resource,
    }
}

/// One form, two buttons; each says where it leads.
fn decision(request: &OversightAnswer, form_token: &str, key: &str) -> Markup {
    let target = |verdict| format!("{HOME}/requests/{}/{verdict}", request.id);
    html! {
        form method="post" action=(target("deny")) {
            input type="hidden" name="form_token" value=(form_token);
            input type="hidden" name="digest" value=(request.digest);
            input type="hidden" name="key" value=(key);
            label for="reason" { "Reason, if you like; the agent reads it" }
            textarea id="reason" name="reason" rows="2" maxlength="1000" {}
            div.decide {
                button.no type="submit" { "Deny" }
                button.yes type="submit" formaction=(target("approve")) { "Approve once" }
            }
        }
        p.soft {
            "Approving opens exactly this action, with exactly these arguments, one time."
        }
    }
}

fn decided(request: &OversightAnswer) -> Markup {
    html! {
        @if let (Some(by), Some(at)) = (&request.decided_by, request.decided_at) {
            h2 { "Decision" }
            p {
                @if request.state == "denied" { "Denied" } @else { "Approved" }
                " by " (by) ", " (instant(at)) "."
                @if request.state == "used" { " The agent has used the approval." }
            }
            @if let Some(reason) = &request.decision_reason {
                p { "“" (plain(reason)) "”" }
            }
        }
    }
}

pub(super) fn login(form_token: &str, next: &str, why: Option<&str>) -> Markup {
    html! {
        h1 { "Log in to Creto" }
        @if let Some(why) = why { p.notice role="alert" { (why) } }
        form method="post" action={ (HOME) "/login" } {
            input type="hidden" name="form_token" value=(form_token);
            input type="hidden" name="next" value=(next);
            label for="credential" { "Your credential" }
            input id="credential" name="credential" type="password" autocomplete="off"
                autocapitalize="none" spellcheck="false" required;
            button.go type="submit" { "Log in" }
        }
        p.soft {
            "It is the token that " code { "creto init" } " wrote for the owner, or that an owner \
             issued to you. It is looked at once, and kept neither here nor in the browser."
        }
    }
}

pub(super) fn problem(problem: &Problem) -> Markup {
    html! {
        h1 { (problem.title) }
        p.notice role="alert" { (plain(&problem.detail)) }
        p.soft { "Code " code { (problem.code) } ", request " code { (problem.request_id) } }
        p { a href=(HOME) { "All requests" } }
    }
}

fn head(visitor: &Visitor, title: &str) -> Markup {
    html! {
        header {
            h1 { (title) }
            @if let Some(session) = &visitor.session {
                form method="post" action={ (HOME) "/logout" } {
                    input type="hidden" name="form_token" value=(session.form_token.as_str());
                    button.quiet type="submit" { (visitor.caller.name()) " · Log out" }
                }
            }
        }
    }
}

fn state(request: &OversightAnswer, now: Timestamp) -> Markup {
    let name = request.state.as_str();
    html! {
        span.state.pending[name == "pending"].approved[name == "approved"].used[name == "used"]
            .denied[name == "denied"].expired[name == "expired"] { (name) }
        @if name == "pending" { ", " (left(now, request.expires_at)) }
    }
}

/// How long a person has.
fn left(now: Timestamp, until: Timestamp) -> String {
    let seconds = now.duration_until(until).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds} seconds left"),
        120..=7_199 => format!("{} minutes left", seconds / 60),
        _ => format!("{} hours left", seconds / 3_600),
    }
}

fn chain(chain: &[PrincipalName]) -> String {
    let names: Vec<_> = chain.iter().map(PrincipalName::as_str).collect();
    names.join(" → ")
}

/// To the second, in UTC.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The arguments, indented, with every character that could deceive the eye
/// written out.
fn arguments(args: &serde_json::Value) -> String {
    let text = serde_json::to_string_pretty(args).unwrap_or_default();
    escape(&text, |c| c == '\n')
}

/// One line of text from elsewhere.
fn plain(text: &str) -> String {
    escape(text, |_| false)
}

fn escape(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) && !allowed(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, and those of Unicode that reorder, hide or join text
/// (Unicode Technical Report 36, sections 2.5 and 2.6).
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00ad}'
                | '\u{034f}'
                | '\u{061c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}'
                | '\u{205f}'..='\u{206f}'
                | '\u{3000}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_deceives_is_written_out() {
        assert_eq!(plain("safe ä 漢"), "safe ä 漢");
        assert_eq!(plain("a\u{202e}b\n"), "a\\u{202e}b\\u{a}");
        let args = serde_json::json!({ "to": "x\u{200b}y", "n": [1] });
        assert_eq!(
            arguments(&args),
            "{\n  \"to\": \"x\\u{200b}y\",\n  \"n\": [\n    1\n  ]\n}"
        );
    }
}
