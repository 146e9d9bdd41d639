//! The page at `/`.

use axum::body::Body;
use data_encoding::BASE64;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Response};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page.html");

/// The page, and the policy that lets its own script and style run and nothing else.
#[derive(Debug)]
pub(crate) struct Page {
    html: String,
    policy: Option<HeaderValue>,
}

impl Page {
    pub(crate) fn new() -> Self {
        let (script, style) = (hash(inside("script")), hash(inside("style")));
        let policy = format!(
            "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let html = HTML.replace("{version}", env!("CARGO_PKG_VERSION"));
        Self { html, policy: HeaderValue::try_from(policy).ok() }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.html.clone()));
        let headers = response.headers_mut();
        if let Some(policy) = &self.policy {
            headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        response
    }
}

/// What is inside the only element of its kind.
fn inside(element: &str) -> &'static str {
    let found = HTML.split_once(&format!("<{element}>")).map(|(_, rest)| rest);
    found.and_then(|rest| rest.split_once(&format!("</{element}>"))).map_or("", |(inside, _)| inside)
}

/// A source expression (CSP 3, 2.3.1).
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_covers_all_of_the_page() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1);
            assert!(!inside(element).is_empty());
            // What is replaced would not have the hash of what was there.
            assert!(!inside(element).contains("{version}"));
        }
        // Neither of these would run.
        assert!(!HTML.contains(" style=") && !HTML.contains(" onclick=") && !HTML.contains("innerHTML"));
        assert!(!HTML.contains("//cdn") && !HTML.contains("src=\"http"));
        let policy = Page::new().policy.unwrap();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'; script-src 'sha256-"));
    }
}
