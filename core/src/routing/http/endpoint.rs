//! A server that is asked, and the requests to it.

use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use thiserror::Error;

use super::media::{MEDIA_TYPE, PATH_PREFIX};
use crate::name::{Name, shorten};

/// Longer base URLs are refused, in bytes; with the name, a URL stays far below what `http` can hold.
const MAX_URL: usize = 2048;
/// The longest label of a domain name, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// The names that [`Endpoint::preset`] knows.
pub const PRESETS: [&str; 3] = ["delegated-ipfs.dev", "ipfs.io", "dweb.link"];

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Api {
    /// `GET` and `PUT {base}/routing/v1/ipns/{name}` (Delegated Routing V1, "IPNS API").
    RoutingV1,
    /// `GET {base}/ipns/{name}?format=ipns-record` (Trustless Gateway, "IPNS Record"). Read only.
    Gateway,
    /// `GET https://{name}.ipns.{host}/?format=ipns-record` (Subdomain Gateway). Read only.
    ///
    /// Such a gateway redirects requests of the path form. Names of all supported keys fit into a DNS label (63
    /// bytes); one that does not is asked for in the path form all the same.
    SubdomainGateway,
}

/// The method with which records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PutMethod {
    /// What the spec says (Delegated Routing V1, "IPNS API").
    #[default]
    Put,
    /// What some servers take instead.
    Post,
}

/// Why a text is not the URL of an endpoint. [`code`](EndpointError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not a URL, without a host, with an impossible port, or too long.
    #[error("`{url}` is not a URL such as https://example.org or https://example.org/prefix")]
    Malformed {
        /// The text, cut if it is long, without what could be a password.
        url: String,
    },
    /// Neither `http://` nor `https://`.
    #[error("`{url}` must begin with https:// or http://")]
    Scheme {
        /// The text, cut if it is long, without what could be a password.
        url: String,
    },
    /// `user:password@` in the URL.
    #[error("a user or password in the URL is not supported; send it as an authorization header")]
    Userinfo,
    /// A query or a fragment.
    #[error("`{url}` must end with its path, without a query (?) or a fragment (#)")]
    Query {
        /// The text, cut if it is long, without what could be a password.
        url: String,
    },
    /// A subdomain gateway that is an IP address or has a path.
    #[error("`{url}` cannot have subdomains; a subdomain gateway is a domain name without a path")]
    NoSubdomains {
        /// The text, cut if it is long, without what could be a password.
        url: String,
    },
}

impl EndpointError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "endpoint_malformed",
            Self::Scheme { .. } => "endpoint_scheme",
            Self::Userinfo => "endpoint_userinfo",
            Self::Query { .. } => "endpoint_query",
            Self::NoSubdomains { .. } => "endpoint_no_subdomains",
        }
    }
}

/// A server, and how it is to be used.
///
/// ```
/// use ipns_core::routing::http::client::Endpoint;
///
/// let name = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam".parse()?;
/// let endpoint = Endpoint::new("https://example.org/prefix/routing/v1/")?;
/// assert_eq!(endpoint.label(), "https://example.org/prefix");
/// assert_eq!(
///     endpoint.get_request(&name, None).uri().path(),
///     "/prefix/routing/v1/ipns/k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: Uri,
    api: Api,
    /// The method with which records are sent; `PUT` unless set.
    pub put: PutMethod,
    /// Whether to ask this server.
    pub read: bool,
    /// Whether to send records to this server. Never true of a gateway made here.
    pub write: bool,
    /// How long one attempt may take; 10 s unless set.
    pub timeout: Duration,
    /// How many attempts a request gets in all; 4 unless set. See [`Backoff`](super::client::Backoff).
    pub attempts: u8,
    /// Sent with every request, such as `authorization`. `Debug` prints their names only, here and in requests.
    pub headers: HeaderMap,
}

impl Endpoint {
    /// A Delegated Routing V1 server by its base URL: the part before `/routing/v1`, or up to and including it.
    ///
    /// # Errors
    /// When the text is not an `http` or `https` URL of a host and at most a path.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        Self::with_api(url, Api::RoutingV1)
    }

    /// A server of another kind by its base URL. Gateways are read only.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a subdomain gateway is not a domain name alone.
    pub fn with_api(url: &str, api: Api) -> Result<Self, EndpointError> {
        Ok(Self {
            base: parse_base(url, api)?,
            api,
            put: PutMethod::default(),
            read: true,
            write: api == Api::RoutingV1,
            timeout: Duration::from_secs(10),
            attempts: 4,
            headers: HeaderMap::new(),
        })
    }

    /// A well-known public server: one of [`PRESETS`].
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "delegated-ipfs.dev" => Self::new("https://delegated-ipfs.dev").ok(),
            "ipfs.io" => Self::with_api("https://ipfs.io", Api::Gateway).ok(),
            "dweb.link" => Self::with_api("https://dweb.link", Api::SubdomainGateway).ok(),
            _ => None,
        }
    }

    /// How the server is spoken to.
    pub fn api(&self) -> Api {
        self.api
    }

    /// The base URL: scheme, host, port if any, and the path before `/routing/v1` or `/ipns/`.
    pub fn base(&self) -> &Uri {
        &self.base
    }

    /// The base URL without a trailing slash, to name this server in receipts and logs. It holds no secrets.
    pub fn label(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// Asks for the record of a name (Delegated Routing V1, "GET /routing/v1/ipns/{name}").
    ///
    /// With the `etag` of a record at hand, the server may answer that nothing changed (RFC 9110, 13.1.2). A text that
    /// no header can hold is left out, which costs only the saving.
    pub fn get_request(&self, name: &Name, etag: Option<&str>) -> Request<Bytes> {
        let mut request = self.request(Method::GET, self.read_uri(name), Bytes::new());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            request.headers_mut().insert(IF_NONE_MATCH, etag);
        }
        request
    }

    /// Sends the record of a name (Delegated Routing V1, "PUT /routing/v1/ipns/{name}").
    ///
    /// Always to `/routing/v1`: whether the server takes records is what [`write`](Self::write) says.
    pub fn put_request(&self, name: &Name, record: &Bytes) -> Request<Bytes> {
        let method = match self.put {
            PutMethod::Put => Method::PUT,
            PutMethod::Post => Method::POST,
        };
        let mut request = self.request(method, self.uri(&format!("{PATH_PREFIX}{name}")), record.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        request
    }

    fn request(&self, method: Method, uri: Uri, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (key, value) in &self.headers {
            let mut value = value.clone();
            value.set_sensitive(true);
            request.headers_mut().append(key.clone(), value);
        }
        request
    }

    fn read_uri(&self, name: &Name) -> Uri {
        let name = name.to_string();
        match self.api {
            Api::RoutingV1 => self.uri(&format!("{PATH_PREFIX}{name}")),
            Api::SubdomainGateway if name.len() <= MAX_LABEL => {
                let (scheme, host) = self.scheme_and_host();
                absolute(format!("{scheme}://{name}.ipns.{host}/?format=ipns-record"))
            }
            Api::Gateway | Api::SubdomainGateway => self.uri(&format!("/ipns/{name}?format=ipns-record")),
        }
    }

    fn uri(&self, path: &str) -> Uri {
        let (scheme, host) = self.scheme_and_host();
        absolute(format!("{scheme}://{host}{}{path}", self.base.path().trim_end_matches('/')))
    }

    fn scheme_and_host(&self) -> (&str, &str) {
        (self.base.scheme_str().unwrap_or_default(), self.base.authority().map_or("", |host| host.as_str()))
    }
}

#[expect(clippy::expect_used, reason = "a base that parsed, at most 2 KiB, followed by constants and base36")]
fn absolute(url: String) -> Uri {
    Uri::try_from(url).expect("a base URL and a name are a URL")
}

fn parse_base(url: &str, api: Api) -> Result<Uri, EndpointError> {
    let url = url.trim();
    let shown = shorten(url.rsplit_once('@').map_or(url, |(_, after)| after));
    let malformed = || EndpointError::Malformed { url: shown.clone() };
    if url.len() > MAX_URL {
        return Err(malformed());
    }
    let host = match url.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            rest.split(['/', '?', '#']).next().unwrap_or_default()
        }
        _ => return Err(EndpointError::Scheme { url: shown }),
    };
    if host.contains('@') {
        return Err(EndpointError::Userinfo);
    }
    if url.contains(['?', '#']) {
        return Err(EndpointError::Query { url: shown });
    }
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/routing/v1").unwrap_or(base).trim_end_matches('/');
    let base = Uri::try_from(base).map_err(|_| malformed())?;
    // What `http` takes for a port need not be one, and a host it lets be empty.
    let authority = base.authority().ok_or_else(malformed)?;
    if authority.host().is_empty() || (authority.as_str() != authority.host() && authority.port_u16().is_none()) {
        return Err(malformed());
    }
    let is_address =
        authority.host().split('.').next_back().is_none_or(|label| !label.starts_with(char::is_alphabetic));
    if api == Api::SubdomainGateway && (base.path() != "/" || is_address) {
        return Err(EndpointError::NoSubdomains { url: shown });
    }
    Ok(base)
}

/// Headers are named but not shown: they hold credentials.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.label())
            .field("api", &self.api)
            .field("put", &self.put)
            .field("read", &self.read)
            .field("write", &self.write)
            .field("timeout", &self.timeout)
            .field("attempts", &self.attempts)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;
    use proptest::prelude::*;

    const NAME: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";

    fn name() -> Name {
        NAME.parse().unwrap()
    }

    #[test]
    fn every_spelling_of_a_base_leads_to_one_url() {
        for (url, label) in [
            ("https://delegated-ipfs.dev", "https://delegated-ipfs.dev"),
            ("https://delegated-ipfs.dev/", "https://delegated-ipfs.dev"),
            (" HTTPS://delegated-ipfs.dev/routing/v1 ", "https://delegated-ipfs.dev"),
            ("https://delegated-ipfs.dev/routing/v1/", "https://delegated-ipfs.dev"),
            ("http://127.0.0.1:8190", "http://127.0.0.1:8190"),
            ("http://[::1]:8190/a/b/", "http://[::1]:8190/a/b"),
            ("http://[::1]", "http://[::1]"),
            ("https://example.org/prefix/routing/v1//", "https://example.org/prefix"),
        ] {
            let endpoint = Endpoint::new(url).unwrap();
            assert_eq!(endpoint.label(), label, "{url}");
            let request = endpoint.get_request(&name(), None);
            assert_eq!(request.uri().to_string(), format!("{label}/routing/v1/ipns/{NAME}"));
            assert_eq!(endpoint.put_request(&name(), &Bytes::new()).uri(), request.uri());
        }
    }

    #[test]
    fn what_is_no_base_is_refused() {
        for (url, code) in [
            ("", "endpoint_scheme"),
            ("delegated-ipfs.dev", "endpoint_scheme"),
            ("ftp://example.org", "endpoint_scheme"),
            ("/routing/v1", "endpoint_scheme"),
            ("https://", "endpoint_malformed"),
            ("https:///routing/v1", "endpoint_malformed"),
            ("https://:80", "endpoint_malformed"),
            ("https://host:99999", "endpoint_malformed"),
            ("https://host:", "endpoint_malformed"),
            ("https://ho st", "endpoint_malformed"),
            ("https://[::1", "endpoint_malformed"),
            ("https://user:secret@host", "endpoint_userinfo"),
            ("https://user:secret@ho st/", "endpoint_userinfo"),
            ("https://host?x", "endpoint_query"),
            ("https://host/#x", "endpoint_query"),
        ] {
            let error = Endpoint::new(url).unwrap_err();
            assert_eq!(error.code(), code, "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        assert!(Endpoint::new(&format!("https://host/{}", "a".repeat(MAX_URL))).is_err());
        for url in ["https://dweb.link/prefix", "https://127.0.0.1", "https://[::1]:80"] {
            let error = Endpoint::with_api(url, Api::SubdomainGateway).unwrap_err();
            assert_eq!(error.code(), "endpoint_no_subdomains", "{url}");
        }
    }

    #[test]
    fn presets_are_asked_in_their_own_way() {
        for (preset, uri, write) in [
            ("delegated-ipfs.dev", format!("https://delegated-ipfs.dev/routing/v1/ipns/{NAME}"), true),
            ("ipfs.io", format!("https://ipfs.io/ipns/{NAME}?format=ipns-record"), false),
            ("dweb.link", format!("https://{NAME}.ipns.dweb.link/?format=ipns-record"), false),
        ] {
            assert!(PRESETS.contains(&preset));
            let endpoint = Endpoint::preset(preset).unwrap();
            assert_eq!((endpoint.read, endpoint.write), (true, write), "{preset}");
            let request = endpoint.get_request(&name(), None);
            assert_eq!(request.uri().to_string(), uri);
            assert_eq!(request.headers()[ACCEPT], MEDIA_TYPE);
        }
        assert_eq!(Endpoint::preset("example.org"), None);
        let secp256k1 = Name::from_bytes(&[&[0, 37, 8, 2, 18, 33, 2][..], &[7; 32]].concat()).unwrap();
        assert_eq!(secp256k1.to_string().len(), MAX_LABEL);
        let long = Name::from_bytes(&[&[0, 42][..], &[7; 42]].concat()).unwrap();
        let request = Endpoint::preset("dweb.link").unwrap().get_request(&long, None);
        assert_eq!(request.uri().to_string(), format!("https://dweb.link/ipns/{long}?format=ipns-record"));
    }

    #[test]
    fn requests_carry_what_the_spec_asks_for() {
        let mut endpoint = Endpoint::new("https://example.org").unwrap();
        let get = endpoint.get_request(&name(), Some("\"abc\""));
        assert_eq!((get.method(), get.body().len(), get.headers().len()), (&Method::GET, 0, 2));
        assert_eq!(get.headers()[ACCEPT], MEDIA_TYPE);
        assert_eq!(get.headers()[IF_NONE_MATCH], "\"abc\"");
        assert_eq!(endpoint.get_request(&name(), Some("a\nb")).headers().len(), 1);

        let record = Bytes::from_static(b"record");
        let put = endpoint.put_request(&name(), &record);
        assert_eq!((put.method(), put.body(), put.headers().len()), (&Method::PUT, &record, 1));
        assert_eq!(put.headers()[CONTENT_TYPE], MEDIA_TYPE);
        endpoint.put = PutMethod::Post;
        assert_eq!(endpoint.put_request(&name(), &record).method(), &Method::POST);
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let mut endpoint = Endpoint::new("https://example.org").unwrap();
        endpoint.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        endpoint.headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
        let request = endpoint.get_request(&name(), None);
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer secret");
        assert_eq!(request.headers().get_all(ACCEPT).iter().collect::<Vec<_>>(), [MEDIA_TYPE]);
        let shown = format!("{endpoint:?} {request:?}");
        assert!(shown.contains("authorization") && !shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_base_panics(url in "\\PC{0,60}", near in "https?://[a-z0-9.:@\\[\\]%_ -]{0,20}/?[ -~]{0,20}") {
            for url in [url, near] {
                for api in [Api::RoutingV1, Api::Gateway, Api::SubdomainGateway] {
                    if let Ok(endpoint) = Endpoint::with_api(&url, api) {
                        let _ = endpoint.get_request(&name(), Some(&url));
                        let _ = endpoint.put_request(&name(), &Bytes::new());
                        prop_assert_eq!(Endpoint::with_api(&endpoint.label(), api).unwrap().label(), endpoint.label());
                    }
                }
            }
        }
    }
}
