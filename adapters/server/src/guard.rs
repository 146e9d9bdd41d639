//! Who may use the admin interface: this machine's own, with the token, and no web page.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};

use crate::answer::refuse;
use crate::connection::Peer;
use crate::routes::App;
use crate::token::Token;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets a request through that may be answered.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().copied();
    match check(peer, request.uri(), request.headers(), app.token()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            tracing::warn!(?peer, code = refusal.code(), "an admin request is refused");
            refusal.response()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Off,
    NotLocal,
    Proxied,
    Host,
    Browser,
    Token,
}

/// The token comes last, so that a web page cannot even try one.
fn check(peer: Option<Peer>, uri: &Uri, headers: &HeaderMap, token: Option<&Token>) -> Result<(), Refusal> {
    let Some(token) = token else { return Err(Refusal::Off) };
    if !peer.is_some_and(|peer| peer.is_local()) {
        return Err(Refusal::NotLocal);
    }
    // Behind a proxy on this machine the whole world looks local.
    if headers.contains_key(FORWARDED) || headers.contains_key(FORWARDED_FOR) {
        return Err(Refusal::Proxied);
    }
    if !has_local_host(uri, headers) {
        return Err(Refusal::Host);
    }
    let crosses = headers.get_all(FETCH_SITE).iter().any(|site| site != "none" && site != "same-origin");
    if crosses || headers.contains_key(ORIGIN) {
        return Err(Refusal::Browser);
    }
    match bearer(headers) {
        Some(presented) if token.matches(presented) => Ok(()),
        _ => Err(Refusal::Token),
    }
}

/// A foreign domain that is made to resolve to this machine keeps its name in the `Host` header.
fn has_local_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    host.is_some_and(|host| is_local(&host)) && uri.authority().is_none_or(is_local)
}

fn is_local(authority: &http::uri::Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::Off => "admin_off",
            Self::NotLocal => "not_local",
            Self::Proxied => "proxied",
            Self::Host => "host_refused",
            Self::Browser => "browser_refused",
            Self::Token => "unauthorized",
        }
    }

    fn response(self) -> Response<Body> {
        let (status, message) = match self {
            Self::Off => (StatusCode::FORBIDDEN, "this server has no admin interface"),
            Self::NotLocal => (StatusCode::FORBIDDEN, "the admin interface answers this machine alone"),
            Self::Proxied => (StatusCode::FORBIDDEN, "the admin interface does not answer through a proxy"),
            Self::Host => (StatusCode::FORBIDDEN, "the Host header must be localhost or a loopback address"),
            Self::Browser => (StatusCode::FORBIDDEN, "the admin interface does not answer web pages"),
            Self::Token => {
                (StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with the token in admin.token in the home")
            }
        };
        let mut response = refuse(status, self.code(), message);
        if self == Self::Token {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ipns admin\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(peer: &str, uri: &str, headers: &[(HeaderName, &str)]) -> Option<Refusal> {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let peer = if peer.is_empty() { Peer::Socket } else { Peer::Tcp(peer.parse().unwrap()) };
        let mut map = HeaderMap::new();
        for (key, value) in headers {
            let value = value.replace("TOKEN", token.reveal());
            map.append(key, value.parse().unwrap());
        }
        check(Some(peer), &uri.parse().unwrap(), &map, Some(&token)).err()
    }

    #[test]
    fn who_may() {
        let right = [(HOST, "localhost:80"), (AUTHORIZATION, "Bearer TOKEN")];
        for peer in ["", "127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(refused(peer, "/", &right), None, "{peer}");
        }
        for peer in ["10.0.0.1:9", "[fe80::1]:9", "[::ffff:10.0.0.1]:9", "0.0.0.0:9"] {
            assert_eq!(refused(peer, "/", &right), Some(Refusal::NotLocal), "{peer}");
        }
        assert_eq!(check(None, &Uri::default(), &HeaderMap::new(), None), Err(Refusal::Off));
        for header in [(FORWARDED, "for=10.0.0.1"), (FORWARDED_FOR, "10.0.0.1")] {
            let headers = [right.to_vec(), vec![header]].concat();
            assert_eq!(refused("", "/", &headers), Some(Refusal::Proxied));
        }
    }

    #[test]
    fn which_host() {
        for (host, uri, expected) in [
            ("LocalHost", "/", None),
            ("127.0.0.1:5001", "/", None),
            ("[::1]:5001", "/", None),
            ("127.0.0.1", "http://127.0.0.1/", None),
            ("127.0.0.1", "http://example.com/", Some(Refusal::Host)),
            ("example.com", "/", Some(Refusal::Host)),
            ("localhost.example.com", "/", Some(Refusal::Host)),
            ("127.0.0.1.example.com", "/", Some(Refusal::Host)),
            ("10.0.0.1", "/", Some(Refusal::Host)),
            ("", "/", Some(Refusal::Host)),
        ] {
            let headers = [(HOST, host), (AUTHORIZATION, "bearer TOKEN")];
            assert_eq!(refused("", uri, &headers), expected, "{host} {uri}");
        }
        assert_eq!(refused("", "/", &[(AUTHORIZATION, "Bearer TOKEN")]), Some(Refusal::Host));
        let twice = [(HOST, "localhost"), (HOST, "example.com"), (AUTHORIZATION, "Bearer TOKEN")];
        assert_eq!(refused("", "/", &twice), Some(Refusal::Host));
    }

    #[test]
    fn no_web_page_and_no_other_token() {
        let base = vec![(HOST, "localhost"), (AUTHORIZATION, "Bearer TOKEN")];
        for (header, expected) in [
            ((ORIGIN, "https://example.com"), Some(Refusal::Browser)),
            ((ORIGIN, "null"), Some(Refusal::Browser)),
            ((FETCH_SITE, "cross-site"), Some(Refusal::Browser)),
            ((FETCH_SITE, "same-site"), Some(Refusal::Browser)),
            ((FETCH_SITE, "none"), None),
        ] {
            assert_eq!(refused("", "/", &[base.clone(), vec![header]].concat()), expected);
        }
        for wrong in ["", "Bearer", "Bearer ", "TOKEN", "Basic TOKEN", "Bearer TOKEN0", "Bearer 00", "Bearé TOKEN"] {
            let headers = [(HOST, "localhost"), (AUTHORIZATION, wrong)];
            assert_eq!(refused("", "/", &headers), Some(Refusal::Token), "{wrong}");
        }
    }
}
