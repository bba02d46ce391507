//! Who asks. Runs before every handler that is not public.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use creto_governor::{Call, Caller, GovernError};
use creto_ingress::{CredentialError, has_credential};
use creto_nhi::Proof;

use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract;
use crate::pages::{self, Visitor};
use crate::sessions;

/// A token, or the sandbox that the request came from.
pub(crate) async fn credential(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match identify(&app, &mut request) {
        Ok(()) => Ok(next.run(request).await),
        Err(error) => {
            extract::let_arrive(request).await;
            Err(error)
        }
    }
}

fn identify(app: &App, request: &mut Request) -> Result<(), ApiError> {
    let bound = request.extensions().get::<Caller>().is_some();
    if bound {
        // A token that reached a sandbox would widen what the sandbox may do.
        return match has_credential(request.headers()) {
            true => Err(ApiError::CredentialInSandbox),
            false => Ok(()),
        };
    }
    let caller = creto_ingress::identify(&app.governor, &app.hosts, request)?;
    let caller = caller.ok_or(CredentialError::Missing)?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// A person: by the cookie of a session, or by a token.
pub(crate) async fn page(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.extensions().get::<Caller>().is_some() {
        return Err(ApiError::PageInSandbox);
    }
    let visitor = match creto_ingress::identify(&app.governor, &app.hosts, &request)? {
        Some(caller) => Visitor {
            caller,
            session: None,
        },
        None => match session(&app, request.headers()) {
            Some(visitor) => visitor,
            None => {
                let path = if request.method() == Method::GET {
                    request.uri().path()
                } else {
                    pages::HOME
                };
                return Ok(pages::login_needed(&app, request.headers(), path, None));
            }
        },
    };
    if !visitor.caller.is_human() {
        let name = visitor.caller.name().to_string();
        return Err(ApiError::PageForPeople { name });
    }
    request.extensions_mut().insert(visitor);
    Ok(next.run(request).await)
}

/// Refuses a person whose role does not allow the operation, before the body is read.
/// One that is in no table is allowed to nobody.
pub(crate) async fn role(
    operation: &'static str,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let extensions = request.extensions();
    let visitor = extensions.get::<Visitor>().map(|visitor| &visitor.caller);
    let refused = match (visitor.or(extensions.get()), Call::of_operation(operation)) {
        (Some(caller), Some(call)) => caller.allowed(call).err(),
        (Some(caller), None) if caller.is_human() => Some(GovernError::Forbidden {
            message: format!("no role allows `{operation}`"),
        }),
        _ => None,
    };
    match refused {
        None => Ok(next.run(request).await),
        Some(error) => {
            extract::let_arrive(request).await;
            Err(error.into())
        }
    }
}

/// The login form's target: the credential is in the body.
pub(crate) async fn login(request: Request, next: Next) -> Response {
    if request.extensions().get::<Caller>().is_some() {
        return ApiError::PageInSandbox.into_response();
    }
    next.run(request).await
}

/// The token endpoint: the credential is in the body, and nowhere else (RFC 6749,
/// section 5.2: who tries otherwise is an unknown client).
pub(crate) async fn exchange(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let refused = if request.extensions().get::<Caller>().is_some() {
        Some(ApiError::CredentialInSandbox)
    } else if has_credential(request.headers()) {
        Some(ApiError::ClientUnknown)
    } else {
        match creto_ingress::proof(&app.governor, &app.hosts, &request) {
            Ok(proof) => {
                request.extensions_mut().insert(Proven(proof));
                None
            }
            Err(error) => Some(error.into()),
        }
    };
    match refused {
        None => Ok(next.run(request).await),
        Some(error) => {
            extract::let_arrive(request).await;
            Err(error)
        }
    }
}

/// The proof that came with an exchange, when one did.
#[derive(Clone)]
pub(crate) struct Proven(pub(crate) Option<Proof>);

/// Whether its credential still holds is asked at every request, so a session never outlives
/// it.
fn session(app: &App, headers: &HeaderMap) -> Option<Visitor> {
    let id = sessions::cookie(headers, sessions::COOKIE)?;
    let session = app.sessions.get(id)?;
    let Ok(caller) = app.governor.still(&session.caller) else {
        app.sessions.remove(id);
        return None;
    };
    Some(Visitor {
        caller,
        session: Some(session),
    })
}
